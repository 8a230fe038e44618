-- compatible-from: 1
-- Links by which a buyer sees a supervision case without an account; only the hash of a link's token is kept.

CREATE TABLE buyer_links (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  case_id @int NOT NULL REFERENCES supervision_cases (id),
  token_hash @bytes NOT NULL UNIQUE,
  created_at @int NOT NULL,
  created_by TEXT NOT NULL,
  expires_at @int NOT NULL,
  revoked_at @int
)@strict;
CREATE INDEX buyer_links_by_case ON buyer_links (case_id, id);
