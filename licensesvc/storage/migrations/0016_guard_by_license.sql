-- compatible-from: 1
-- Live calls that name a license and no order, as the delisting guard reads them: each license is a story of its own.

CREATE INDEX messages_live_of_license ON messages (connection_id, activity, license_id, received_at)
  WHERE direction = 'in' AND purpose = 'live' AND authenticated_at IS NOT NULL AND order_id IS NULL
    AND license_id IS NOT NULL;
