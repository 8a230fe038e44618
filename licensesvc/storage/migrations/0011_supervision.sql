-- compatible-from: 1
-- Supervision: refunds, appeals, what the marketplace has confirmed, acceptance standards, deadlines that lists can ask for.

ALTER TABLE supervision_cases ADD COLUMN standard_version @int NOT NULL DEFAULT 0;
ALTER TABLE supervision_cases ADD COLUMN refund TEXT NOT NULL DEFAULT 'NONE'
  CHECK (refund IN ('NONE', 'ASKED', 'AWAITING_GOODS', 'PENDING_INSPECTION', 'APPROVED', 'PAID_BACK'));
ALTER TABLE supervision_cases ADD COLUMN refund_at @int;
ALTER TABLE supervision_cases ADD COLUMN refund_amount @int;
ALTER TABLE supervision_cases ADD COLUMN appealed_at @int;
ALTER TABLE supervision_cases ADD COLUMN enabled_at @int;
ALTER TABLE supervision_cases ADD COLUMN resource_order TEXT;
ALTER TABLE supervision_cases ADD COLUMN acceptance_confirmed_at @int;
ALTER TABLE supervision_cases ADD COLUMN unconfirmed_since @int;
ALTER TABLE supervision_cases ADD COLUMN due_at @int;
-- The system or hardware code that the buyer submitted, sealed.
ALTER TABLE supervision_cases ADD COLUMN buyer_code @bytes;
CREATE INDEX supervision_cases_due ON supervision_cases (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX supervision_cases_unconfirmed ON supervision_cases (id) WHERE unconfirmed_since IS NOT NULL;
CREATE INDEX supervision_cases_frozen ON supervision_cases (id) WHERE appealed_at IS NOT NULL;
CREATE INDEX supervision_cases_settled ON supervision_cases (settlement_month, id) WHERE settlement_month IS NOT NULL;

-- When we learned of an event, when the marketplace was known to show it, and what only some events tell.
ALTER TABLE supervision_events ADD COLUMN recorded_at @int;
ALTER TABLE supervision_events ADD COLUMN confirmed_at @int;
ALTER TABLE supervision_events ADD COLUMN facts TEXT NOT NULL DEFAULT '{}';

CREATE TABLE acceptance_standards (
  product_id @int NOT NULL REFERENCES products (id),
  version @int NOT NULL,
  standard TEXT NOT NULL,
  created_at @int NOT NULL,
  PRIMARY KEY (product_id, version)
)@strict;

-- Cases from before: operators recorded what the marketplace showed, proofs were uploaded here.
UPDATE supervision_events SET source = 'marketplace' WHERE source NOT IN ('software', 'operator', 'buyer_page', 'import');
UPDATE supervision_events SET confirmed_at = at WHERE event IN ('accepted', 'rejected', 'completed');
UPDATE supervision_events SET confirmed_at = at WHERE event = 'proof_uploaded' AND EXISTS (
  SELECT 1 FROM supervision_events later WHERE later.case_id = supervision_events.case_id AND later.id > supervision_events.id
  AND later.confirmed_at IS NOT NULL);
UPDATE supervision_events SET facts = '{"settlement_month":"' || (
  SELECT c.settlement_month FROM supervision_cases c WHERE c.id = supervision_events.case_id) || '"}'
  WHERE event = 'completed' AND EXISTS (
  SELECT 1 FROM supervision_cases c WHERE c.id = supervision_events.case_id AND c.settlement_month IS NOT NULL);
UPDATE supervision_cases SET acceptance_confirmed_at = (
  SELECT e.confirmed_at FROM supervision_events e WHERE e.case_id = supervision_cases.id AND e.to_node = 'ACCEPTED'
  ORDER BY e.id DESC LIMIT 1) WHERE accepted_at IS NOT NULL;
UPDATE supervision_cases SET unconfirmed_since = (
  SELECT MIN(e.at) FROM supervision_events e WHERE e.case_id = supervision_cases.id AND e.event = 'proof_uploaded'
  AND e.confirmed_at IS NULL);
UPDATE supervision_cases SET due_at = accepted_at + 10800000 WHERE node = 'ACCEPTED';
