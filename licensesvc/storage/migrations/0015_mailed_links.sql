-- compatible-from: 1
-- Links that go to the buyer by mail: the token lies sealed until the mail is sent, then only its hash is left.

ALTER TABLE buyer_links ADD COLUMN sealed_token @bytes;
ALTER TABLE buyer_links ADD COLUMN mailed_at @int;
