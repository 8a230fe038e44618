"""Use-cases, one file a verb: each opens a transaction, calls the domain, writes audit and outbox rows. No HTTP, no framework."""
