-- compatible-from: 1
-- The clock of supervision, and money: prices, payments, refunds, agreements.

-- When the clock has to look at a case next; NULL = it has changed and nobody has looked.
ALTER TABLE supervision_cases ADD COLUMN wake_at @int;
CREATE INDEX supervision_cases_wake ON supervision_cases (wake_at, id);

-- What is due in each case: a row is there before its time, and tells when it was announced.
CREATE TABLE supervision_due (
  case_id @int NOT NULL REFERENCES supervision_cases (id),
  kind TEXT NOT NULL,
  at @int NOT NULL,
  actor TEXT,
  fired_at @int,
  PRIMARY KEY (case_id, kind, at)
)@strict;
CREATE INDEX supervision_due_open ON supervision_due (at, case_id) WHERE fired_at IS NULL;

ALTER TABLE products ADD COLUMN sales_model TEXT NOT NULL DEFAULT 'general' CHECK (sales_model IN ('general', 'joint'));

-- Amounts are hundredths of the currency.
CREATE TABLE line_prices (
  line_ref @int PRIMARY KEY REFERENCES order_lines (id),
  currency TEXT NOT NULL,
  price @int NOT NULL CHECK (price >= 0),
  source TEXT NOT NULL,
  set_at @int NOT NULL
)@strict;

CREATE TABLE transactions (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int NOT NULL REFERENCES connections (id),
  line_ref @int NOT NULL REFERENCES order_lines (id),
  reference TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('payment', 'refund')),
  amount @int NOT NULL CHECK (amount > 0),
  at @int NOT NULL,
  source TEXT NOT NULL,
  created_at @int NOT NULL,
  UNIQUE (connection_id, reference)
)@strict;
CREATE INDEX transactions_by_line ON transactions (line_ref, id);

-- A product's service agreement in its versions, or (without a product) one that the seller has signed with the marketplace.
CREATE TABLE agreements (
  id @id,
  public_id TEXT NOT NULL UNIQUE,
  connection_id @int NOT NULL REFERENCES connections (id),
  product_id @int REFERENCES products (id),
  title TEXT NOT NULL,
  version TEXT NOT NULL,
  sha256 TEXT,
  effective_at @int NOT NULL,
  ends_at @int,
  created_at @int NOT NULL
)@strict;
CREATE INDEX agreements_by_product ON agreements (product_id, id);

CREATE TABLE agreement_acceptances (
  id @id,
  agreement_id @int NOT NULL REFERENCES agreements (id),
  line_ref @int NOT NULL REFERENCES order_lines (id),
  accepted_at @int NOT NULL,
  source TEXT NOT NULL,
  UNIQUE (agreement_id, line_ref)
)@strict;
