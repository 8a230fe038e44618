-- compatible-from: 1
-- Internal keys ascend, public ids are text, instants are epoch milliseconds UTC, a missing instant is NULL.
-- What activation, heartbeat and seats change lies in license_states, a narrow table apart from codes and documents.

CREATE TABLE connections (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  site TEXT NOT NULL CHECK (site IN ('cn', 'intl', 'eu')),
  base_url TEXT,
  wire_zone TEXT NOT NULL,
  calendar_zone TEXT NOT NULL,
  callback_key @bytes,
  api_access_key TEXT,
  api_secret @bytes,
  created_at @int NOT NULL,
  version @int NOT NULL DEFAULT 1
)@strict;

CREATE TABLE policies (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  terms TEXT NOT NULL,
  created_at @int NOT NULL,
  version @int NOT NULL DEFAULT 1
)@strict;

CREATE TABLE products (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int NOT NULL REFERENCES connections (id),
  policy_id @int NOT NULL REFERENCES policies (id),
  name TEXT NOT NULL,
  marketplace_product_id TEXT NOT NULL,
  sku_code TEXT NOT NULL DEFAULT '',
  delivery_kind TEXT NOT NULL,
  code_prefix TEXT NOT NULL,
  created_at @int NOT NULL,
  version @int NOT NULL DEFAULT 1,
  UNIQUE (connection_id, marketplace_product_id, sku_code)
)@strict;

-- The only table with personal data; everything else names a buyer by id.
CREATE TABLE buyers (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int NOT NULL REFERENCES connections (id),
  customer_id TEXT NOT NULL,
  name TEXT,
  real_name TEXT,
  email TEXT,
  mobile TEXT,
  created_at @int NOT NULL,
  UNIQUE (connection_id, customer_id)
)@strict;

CREATE TABLE orders (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int NOT NULL REFERENCES connections (id),
  order_id TEXT NOT NULL,
  order_type TEXT NOT NULL,
  buyer_id @int REFERENCES buyers (id),
  source TEXT NOT NULL,
  order_time @int,
  received_at @int NOT NULL,
  UNIQUE (connection_id, order_id)
)@strict;
CREATE INDEX orders_by_order_id ON orders (order_id, id);

CREATE TABLE order_lines (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  order_ref @int NOT NULL REFERENCES orders (id),
  line_id TEXT NOT NULL,
  product_id @int NOT NULL REFERENCES products (id),
  instance_id TEXT UNIQUE,
  terms TEXT NOT NULL,
  created_at @int NOT NULL,
  UNIQUE (order_ref, line_id)
)@strict;

CREATE TABLE licenses (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  line_ref @int NOT NULL UNIQUE REFERENCES order_lines (id),
  connection_id @int NOT NULL REFERENCES connections (id),
  product_id @int NOT NULL REFERENCES products (id),
  order_id TEXT NOT NULL,
  marketplace_product_id TEXT NOT NULL,
  amount @int,
  order_time @int NOT NULL,
  policy TEXT NOT NULL,
  expiry_sources TEXT NOT NULL,
  code_hint TEXT NOT NULL,
  created_at @int NOT NULL
)@strict;
CREATE INDEX licenses_by_order ON licenses (order_id, id);

CREATE TABLE license_states (
  license_id @int PRIMARY KEY REFERENCES licenses (id),
  version @int NOT NULL DEFAULT 1,
  state TEXT NOT NULL CHECK (state IN ('ISSUED', 'ACTIVE', 'REVOKED', 'RELEASED')),
  activated_at @int,
  service_start @int,
  expires_at @int,
  expiry_source TEXT NOT NULL,
  settled_at @int,
  frozen_at @int,
  suspended_at @int,
  last_seen_at @int,
  seats @int NOT NULL CHECK (seats >= 1),
  seats_taken @int NOT NULL DEFAULT 0,
  CONSTRAINT seats_never_oversold CHECK (seats_taken >= 0 AND seats_taken <= seats),
  CONSTRAINT active_has_a_start CHECK (state <> 'ACTIVE' OR activated_at IS NOT NULL)
)@strict;

-- Either identity of a license finds it: our own code or the one the marketplace made.
CREATE TABLE license_codes (
  id @id,
  license_id @int NOT NULL REFERENCES licenses (id),
  kind TEXT NOT NULL CHECK (kind IN ('own', 'marketplace')),
  code_index TEXT NOT NULL UNIQUE,
  sealed @bytes NOT NULL,
  created_at @int NOT NULL
)@strict;
CREATE INDEX license_codes_by_license ON license_codes (license_id);

-- A row without signature is an intent: the exact bytes that will be signed, recorded before the key is used.
CREATE TABLE license_documents (
  license_id @int NOT NULL REFERENCES licenses (id),
  revision @int NOT NULL,
  kid TEXT NOT NULL,
  facts TEXT NOT NULL,
  signing_input @bytes NOT NULL,
  signature @bytes,
  recorded_at @int NOT NULL,
  PRIMARY KEY (license_id, revision)
)@strict;

CREATE TABLE activations (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  license_id @int NOT NULL REFERENCES licenses (id),
  fingerprint_index TEXT NOT NULL,
  created_at @int NOT NULL,
  released_at @int
)@strict;
CREATE UNIQUE INDEX activations_live ON activations (license_id, fingerprint_index) WHERE released_at IS NULL;

CREATE TABLE supervision_cases (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  line_ref @int NOT NULL UNIQUE REFERENCES order_lines (id),
  connection_id @int NOT NULL REFERENCES connections (id),
  flow TEXT NOT NULL,
  node TEXT NOT NULL,
  version @int NOT NULL DEFAULT 1,
  entered_at @int NOT NULL,
  rejections @int NOT NULL DEFAULT 0,
  accepted_at @int,
  completed_at @int,
  settlement_month TEXT,
  created_at @int NOT NULL
)@strict;
CREATE INDEX supervision_cases_by_node ON supervision_cases (node, id);

CREATE TABLE supervision_events (
  id @id,
  case_id @int NOT NULL REFERENCES supervision_cases (id),
  at @int NOT NULL,
  event TEXT NOT NULL,
  actor TEXT NOT NULL,
  source TEXT NOT NULL,
  from_node TEXT NOT NULL,
  to_node TEXT NOT NULL,
  reason TEXT
)@strict;
CREATE INDEX supervision_events_by_case ON supervision_events (case_id, id);

CREATE TABLE proofs (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  case_id @int NOT NULL REFERENCES supervision_cases (id),
  kind TEXT NOT NULL,
  filename TEXT NOT NULL,
  media_type TEXT NOT NULL,
  size @int NOT NULL,
  sha256 TEXT NOT NULL,
  uploaded_at @int NOT NULL
)@strict;
CREATE INDEX proofs_by_case ON proofs (case_id, id);

CREATE TABLE credentials (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int NOT NULL REFERENCES connections (id),
  product_id @int REFERENCES products (id),
  name TEXT NOT NULL,
  access_key TEXT NOT NULL UNIQUE,
  secret @bytes NOT NULL,
  scope TEXT NOT NULL CHECK (scope IN ('device', 'seller')),
  created_at @int NOT NULL,
  revoked_at @int,
  CHECK (scope = 'seller' OR product_id IS NOT NULL)
)@strict;

-- Consecutive bad signatures per credential and client address; the row goes when a good one arrives.
CREATE TABLE signature_failures (
  credential_id @int NOT NULL REFERENCES credentials (id),
  address TEXT NOT NULL,
  failures @int NOT NULL,
  last_at @int NOT NULL,
  locked_until @int,
  PRIMARY KEY (credential_id, address)
)@strict;
CREATE INDEX signature_failures_by_age ON signature_failures (last_at);

CREATE TABLE admin_tokens (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  prefix TEXT NOT NULL UNIQUE,
  token_hash @bytes NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('owner', 'operator', 'reader')),
  created_at @int NOT NULL,
  revoked_at @int
)@strict;

CREATE TABLE idempotency_keys (
  scope TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  request_hash TEXT NOT NULL,
  status @int NOT NULL,
  response @bytes NOT NULL,
  created_at @int NOT NULL,
  PRIMARY KEY (scope, idempotency_key)
)@strict;
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE messages (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int REFERENCES connections (id),
  direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
  activity TEXT NOT NULL,
  order_id TEXT,
  authenticated_at @int,
  received_at @int NOT NULL,
  request TEXT NOT NULL,
  response TEXT NOT NULL,
  outcome TEXT NOT NULL,
  detail TEXT,
  address TEXT,
  duration_ms @int NOT NULL
)@strict;
CREATE INDEX messages_by_order ON messages (order_id, id);
CREATE INDEX messages_unauthenticated ON messages (id) WHERE authenticated_at IS NULL;

CREATE TABLE outbox (
  id @id,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  payload TEXT NOT NULL,
  created_at @int NOT NULL,
  due_at @int NOT NULL,
  attempts @int NOT NULL DEFAULT 0,
  first_tried_at @int,
  last_error TEXT,
  done_at @int,
  given_up_at @int
)@strict;
CREATE INDEX outbox_due ON outbox (due_at) WHERE done_at IS NULL AND given_up_at IS NULL;

CREATE TABLE nonces (
  connection_id @int NOT NULL REFERENCES connections (id),
  nonce TEXT NOT NULL,
  expires_at @int NOT NULL,
  PRIMARY KEY (connection_id, nonce)
)@strict;
CREATE INDEX nonces_by_expiry ON nonces (expires_at);

-- One hash chain per writing process; the hash of a row covers its predecessor's.
CREATE TABLE audit_events (
  chain TEXT NOT NULL,
  seq @int NOT NULL,
  at @int NOT NULL,
  actor TEXT NOT NULL,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL,
  hash @bytes NOT NULL,
  PRIMARY KEY (chain, seq)
)@strict;
CREATE INDEX audit_events_by_subject ON audit_events (subject, at);
