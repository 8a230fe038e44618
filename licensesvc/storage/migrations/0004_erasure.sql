-- compatible-from: 1
-- A buyer whose personal data was erased stays as the id that orders name; later calls about those orders bring nothing back.

ALTER TABLE buyers ADD COLUMN erased_at @int;
