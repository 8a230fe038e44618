"""Storage: one SQL text on two engines, one writer per process, no ORM (architecture §5).

In: the port (`port`), its engines (`sqlite`, `postgres`), the group commit (`writer`), the migration runner (`migrate`) and one module
of plain functions `f(tx, …)` per group of tables. Out: rules of licensing (domain), transactions around several verbs (services).

`postgres` needs the extra `licensesvc[postgres]` and is therefore imported by nobody but whoever opens such a database.
"""
