-- compatible-from: 1
-- Calls of the marketplace that name an order: each counts once for a license, however often and in whatever order they come.

CREATE TABLE license_calls (
  id @id,
  license_id @int NOT NULL REFERENCES licenses (id),
  kind TEXT NOT NULL CHECK (kind IN ('refresh', 'release')),
  order_id TEXT NOT NULL,
  order_line_id TEXT NOT NULL,
  scene TEXT,
  product_id TEXT,
  expires_at @int,
  effect TEXT NOT NULL CHECK (effect IN ('applied', 'older', 'over')),
  received_at @int NOT NULL,
  UNIQUE (license_id, kind, order_id, order_line_id)
)@strict;

-- A freeze that did not fit the end of the license: remembered, not obeyed.
ALTER TABLE license_states ADD COLUMN freeze_unheeded_at @int;
