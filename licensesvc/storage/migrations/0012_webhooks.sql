-- compatible-from: 1
-- Outgoing webhooks. The feed is the audit chains: a cursor says how far each endpoint has been told of each chain (ADR 43).

CREATE TABLE webhook_endpoints (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  url TEXT NOT NULL,
  description TEXT NOT NULL DEFAULT '',
  events TEXT NOT NULL,
  signatures TEXT NOT NULL,
  created_at @int NOT NULL,
  version @int NOT NULL DEFAULT 1,
  disabled_at @int,
  disabled_why TEXT CHECK (disabled_why IN ('operator', 'gone', 'failing')),
  failing_since @int,
  paused_until @int,
  deleted_at @int,
  CONSTRAINT disabled_for_a_reason CHECK ((disabled_at IS NULL) = (disabled_why IS NULL))
)@strict;

-- A secret with an end is the one before: both sign until then.
CREATE TABLE webhook_secrets (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  endpoint_id @int NOT NULL REFERENCES webhook_endpoints (id),
  kind TEXT NOT NULL CHECK (kind IN ('v1', 'v1a')),
  sealed @bytes NOT NULL,
  public_key TEXT,
  created_at @int NOT NULL,
  ends_at @int
)@strict;
CREATE INDEX webhook_secrets_by_endpoint ON webhook_secrets (endpoint_id, id);

CREATE TABLE webhook_cursors (
  endpoint_id @int NOT NULL REFERENCES webhook_endpoints (id),
  chain TEXT NOT NULL,
  seq @int NOT NULL,
  PRIMARY KEY (endpoint_id, chain)
)@strict;

-- One message for one endpoint. Open until closed_at; a claim moves due_at to the end of its lease and counts itself.
CREATE TABLE webhook_deliveries (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  endpoint_id @int NOT NULL REFERENCES webhook_endpoints (id),
  message_id TEXT NOT NULL,
  type TEXT NOT NULL,
  subject TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at @int NOT NULL,
  due_at @int NOT NULL,
  claims @int NOT NULL DEFAULT 0,
  attempts @int NOT NULL DEFAULT 0,
  log TEXT NOT NULL DEFAULT '[]',
  closed_at @int,
  outcome TEXT CHECK (outcome IN ('delivered', 'given_up')),
  CONSTRAINT closed_with_an_outcome CHECK ((closed_at IS NULL) = (outcome IS NULL))
)@strict;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, due_at, id) WHERE closed_at IS NULL;
CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (endpoint_id, subject, id) WHERE closed_at IS NULL;
CREATE INDEX webhook_deliveries_by_endpoint ON webhook_deliveries (endpoint_id, id);
CREATE INDEX webhook_deliveries_closed ON webhook_deliveries (closed_at) WHERE closed_at IS NOT NULL;
