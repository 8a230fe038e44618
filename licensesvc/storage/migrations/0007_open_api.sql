-- compatible-from: 1
-- How many used a license on a day of its connection's calendar (days since 1970-01-01): distinct clients that were named, and the
-- largest number that the software itself stated.

CREATE TABLE usage_days (
  license_id @int NOT NULL REFERENCES licenses (id),
  day @int NOT NULL,
  clients @int NOT NULL DEFAULT 0,
  active_num @int,
  PRIMARY KEY (license_id, day)
)@strict;
CREATE INDEX usage_days_by_day ON usage_days (day);

-- Whom a day has counted already: license, day and a keyed hash of the client. Of use only while the day lasts.
CREATE TABLE usage_clients (
  client_key TEXT NOT NULL PRIMARY KEY,
  day @int NOT NULL
)@strict;
CREATE INDEX usage_clients_by_day ON usage_clients (day);
