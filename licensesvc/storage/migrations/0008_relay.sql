-- compatible-from: 1
-- Relay mode: the marketplace's last answer about each license, signed by us, and the use of codes that it shall be told of.

CREATE TABLE relay_answers (
  license_id @int PRIMARY KEY REFERENCES licenses (id),
  asked_at @int NOT NULL,
  asked_day TEXT,
  document TEXT NOT NULL
)@strict;

-- One row for each client of a license on a day of the connection's calendar (days since 1970-01-01); client_index is empty where software tells a number only.
-- The client's id is sealed, and emptied once the marketplace has it.
CREATE TABLE relay_usage (
  id @id,
  connection_id @int NOT NULL REFERENCES connections (id),
  license_id @int NOT NULL REFERENCES licenses (id),
  day @int NOT NULL,
  client_index TEXT NOT NULL,
  client @bytes,
  active_num @int,
  recorded_at @int NOT NULL,
  reported_at @int,
  refused_at @int,
  UNIQUE (license_id, day, client_index)
)@strict;
CREATE INDEX relay_usage_waiting ON relay_usage (connection_id, id) WHERE reported_at IS NULL AND refused_at IS NULL;
CREATE INDEX relay_usage_by_age ON relay_usage (recorded_at);
