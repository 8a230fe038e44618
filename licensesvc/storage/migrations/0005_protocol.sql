-- compatible-from: 1
-- What a connection chooses of the protocol, and messages that can be restarted.

ALTER TABLE connections ADD COLUMN error_table TEXT NOT NULL DEFAULT 'current' CHECK (error_table IN ('current', 'older'));
ALTER TABLE connections ADD COLUMN unknown_codes TEXT NOT NULL DEFAULT 'refuse' CHECK (unknown_codes IN ('refuse', 'learn'));
ALTER TABLE connections ADD COLUMN relay TEXT NOT NULL DEFAULT 'off' CHECK (relay IN ('off', 'single', 'batch'));

-- A debug case (testFlag=1) is told apart from a live call. The request itself is kept sealed for a restart, where its sender is proven.
ALTER TABLE messages ADD COLUMN purpose TEXT NOT NULL DEFAULT 'live' CHECK (purpose IN ('live', 'test'));
ALTER TABLE messages ADD COLUMN sealed_request @bytes;
ALTER TABLE messages ADD COLUMN restart_of TEXT;
