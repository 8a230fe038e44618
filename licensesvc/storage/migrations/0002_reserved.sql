-- compatible-from: 1
-- Keeps the number of a migration that arrives from elsewhere; it takes this file's place.
DROP TABLE IF EXISTS reserved_for_0002;
