-- compatible-from: 1
-- One number for each subject whose events are limited: when everything it has spent is refilled. A bucket that is drained means nothing.

CREATE TABLE buckets (
  name TEXT NOT NULL PRIMARY KEY,
  drained_at @int NOT NULL
)@strict;
CREATE INDEX buckets_by_drained_at ON buckets (drained_at);
