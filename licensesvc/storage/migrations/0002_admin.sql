-- compatible-from: 1
-- Lists by what people know of a record, and the last use of admin tokens.

ALTER TABLE admin_tokens ADD COLUMN last_used_at @int;

CREATE INDEX orders_by_buyer ON orders (buyer_id, id);
CREATE INDEX licenses_by_product ON licenses (product_id, id);
CREATE INDEX audit_events_by_time ON audit_events (at, chain, seq);
CREATE INDEX messages_by_time ON messages (received_at, id);
