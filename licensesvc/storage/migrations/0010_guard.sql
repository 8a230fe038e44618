-- compatible-from: 1
-- The delisting guard: what the marketplace counts against a seller, the alerts about it, and the channels that carry them.

-- Live calls of the marketplace by what they are about: how often it was tried, and whether a try succeeded.
CREATE INDEX messages_live_calls ON messages (connection_id, activity, COALESCE(order_id, ''), received_at)
  WHERE direction = 'in' AND purpose = 'live' AND authenticated_at IS NOT NULL;
CREATE INDEX messages_failed_calls ON messages (connection_id, received_at)
  WHERE direction = 'in' AND purpose = 'live' AND authenticated_at IS NOT NULL AND outcome <> '000000'
    AND restart_of IS NULL;
CREATE INDEX messages_probes ON messages (connection_id, received_at)
  WHERE direction = 'in' AND purpose = 'test' AND authenticated_at IS NOT NULL;
CREATE INDEX signature_failures_locked ON signature_failures (locked_until) WHERE locked_until IS NOT NULL;

-- What operators read in the seller's account: the marketplace's own count, and whether anything is on sale.
CREATE TABLE marketplace_figures (
  connection_id @int NOT NULL REFERENCES connections (id),
  month TEXT NOT NULL,
  failed_orders @int NOT NULL CHECK (failed_orders >= 0),
  reported_at @int NOT NULL,
  reported_by TEXT NOT NULL,
  version @int NOT NULL DEFAULT 1,
  PRIMARY KEY (connection_id, month)
)@strict;

CREATE TABLE sale_declarations (
  connection_id @int NOT NULL PRIMARY KEY REFERENCES connections (id),
  on_sale TEXT NOT NULL CHECK (on_sale IN ('yes', 'no', 'unknown')),
  declared_at @int NOT NULL,
  declared_by TEXT NOT NULL,
  version @int NOT NULL DEFAULT 1
)@strict;

-- Refusals in a row as each process counts them, so that all processes judge by the same figures.
CREATE TABLE open_api_refusals (
  connection_id @int NOT NULL REFERENCES connections (id),
  node TEXT NOT NULL,
  refusals @int NOT NULL,
  observed_at @int NOT NULL,
  PRIMARY KEY (connection_id, node)
)@strict;

-- `told_level` is what receivers believe, `told_peak` the most they were told, `told_at` when they were told of something bad last.
CREATE TABLE alerts (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int NOT NULL REFERENCES connections (id),
  gauge TEXT NOT NULL,
  period TEXT NOT NULL,
  level TEXT NOT NULL CHECK (level IN ('ok', 'warn', 'critical')),
  told_level TEXT NOT NULL CHECK (told_level IN ('ok', 'warn', 'critical')),
  told_peak TEXT NOT NULL CHECK (told_peak IN ('warn', 'critical')),
  told_at @int NOT NULL,
  incident @int NOT NULL,
  gauge_value @int NOT NULL,
  gauge_limit @int,
  opened_at @int NOT NULL,
  cleared_at @int,
  acknowledged_at @int,
  acknowledged_by TEXT,
  version @int NOT NULL DEFAULT 1,
  UNIQUE (connection_id, gauge, period),
  CONSTRAINT cleared_is_ok CHECK ((level = 'ok') = (cleared_at IS NOT NULL))
)@strict;
CREATE UNIQUE INDEX alerts_open ON alerts (connection_id, gauge) WHERE cleared_at IS NULL;

-- `address` is a mail address or a URL; `recipient` fills a gateway's template, e.g. with a telephone number. `secret` goes into the
-- header `secret_header`.
CREATE TABLE alert_channels (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('mail', 'webhook')),
  language TEXT NOT NULL,
  least_level TEXT NOT NULL CHECK (least_level IN ('warn', 'critical')),
  address TEXT NOT NULL,
  recipient TEXT,
  template TEXT,
  secret_header TEXT,
  secret @bytes,
  created_at @int NOT NULL,
  version @int NOT NULL DEFAULT 1
)@strict;
