-- compatible-from: 1
-- Messages that operators restart, and the nightly comparison of orders with the marketplace.

-- `restarted_at`: a restart of this message succeeded. The claim lets one restart run at a time; it lapses by itself.
ALTER TABLE messages ADD COLUMN license_id @int REFERENCES licenses (id);
ALTER TABLE messages ADD COLUMN restarted_at @int;
ALTER TABLE messages ADD COLUMN restart_claim TEXT;
ALTER TABLE messages ADD COLUMN restart_claimed_at @int;
CREATE INDEX messages_by_license ON messages (license_id, id) WHERE license_id IS NOT NULL;
CREATE INDEX messages_not_succeeded ON messages (id) WHERE outcome NOT IN ('000000', 'ok');
CREATE INDEX messages_restarts ON messages (restart_of) WHERE restart_of IS NOT NULL;

-- The message that this work carries out again.
ALTER TABLE outbox ADD COLUMN restart_of TEXT;
CREATE INDEX outbox_given_up ON outbox (id) WHERE given_up_at IS NOT NULL;

-- One row per connection: the night that was begun last, and how far it is. Whoever holds the lease works on it.
CREATE TABLE reconciliation_runs (
  connection_id @int NOT NULL PRIMARY KEY REFERENCES connections (id),
  night TEXT NOT NULL,
  stage TEXT NOT NULL,
  after @int NOT NULL DEFAULT 0,
  started_at @int NOT NULL,
  finished_at @int,
  holder TEXT,
  leased_until @int NOT NULL DEFAULT 0,
  asked @int NOT NULL DEFAULT 0,
  unanswered @int NOT NULL DEFAULT 0,
  last_error TEXT
)@strict;

-- What our record and the marketplace's say differently. An open finding is there once.
CREATE TABLE reconciliation_findings (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int NOT NULL REFERENCES connections (id),
  order_id TEXT NOT NULL,
  line_id TEXT NOT NULL DEFAULT '',
  kind TEXT NOT NULL,
  ours TEXT,
  theirs TEXT,
  found_at @int NOT NULL,
  seen_at @int NOT NULL,
  resolved_at @int,
  how TEXT CHECK (how IN ('vanished', 'repaired', 'dismissed')),
  resolved_by TEXT,
  CONSTRAINT resolved_somehow CHECK ((resolved_at IS NULL) = (how IS NULL))
)@strict;
CREATE UNIQUE INDEX reconciliation_findings_open
  ON reconciliation_findings (connection_id, order_id, line_id, kind) WHERE resolved_at IS NULL;
CREATE INDEX reconciliation_findings_by_order ON reconciliation_findings (connection_id, order_id, id);
