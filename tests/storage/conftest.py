"""A small shop to prove the engines with: articles with a stock that the database itself refuses to oversell."""

import pytest

from licensesvc.storage.port import Database


@pytest.fixture
def tables() -> bool:
    return False


@pytest.fixture
async def shop(database: Database) -> Database:
    async def create(tx):
        await tx.run(
            "CREATE TABLE articles (id BIGINT PRIMARY KEY, name TEXT NOT NULL UNIQUE, stock BIGINT NOT NULL,"
            " CONSTRAINT stock_not_negative CHECK (stock >= 0))"
        )
        await tx.run("CREATE TABLE sales (buyer BIGINT NOT NULL, article BIGINT NOT NULL REFERENCES articles (id))")
        await tx.many(
            "INSERT INTO articles (id, name, stock) VALUES ($1, $2, $3)", [(1, "scarce", 10), (2, "plenty", 100_000)]
        )

    await database.write(create)
    return database


@pytest.fixture
def count(shop: Database):
    """Number of rows that `FROM …` gives."""

    async def count(tail: str) -> int:
        return (await shop.read(lambda tx: tx.one(f"SELECT COUNT(*) AS n FROM {tail}")))["n"]  # noqa: S608 - text of the tests themselves

    return count
