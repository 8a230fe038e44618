"""Rows of `relay_answers` and `relay_usage`."""

from collections.abc import Collection, Sequence

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.license import ExpirySources
from licensesvc.domain.policy import Policy
from licensesvc.domain.product import DeliveryKind
from licensesvc.storage.port import Tx


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The marketplace's last answer about a license; `asked_day` is None when it did not answer a query."""

    license_id: int
    asked_at: Instant
    asked_day: str | None
    document: str


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """A client, or a number of clients, of one license on one day that the marketplace has not been told of."""

    id: int
    license_id: int
    license: str
    day: int
    client_index: str
    client: bytes | None
    active_num: int | None
    code: bytes
    """The marketplace's code of the license, sealed."""

    def __repr__(self) -> str:
        return f"UsageRow({self.id})"


async def answers_of(tx: Tx, license_ids: Collection[int]) -> dict[int, StoredAnswer]:
    """The last answers about these licenses, by internal id."""
    rows = await tx.all(
        "SELECT license_id, asked_at, asked_day, document FROM relay_answers WHERE license_id IN @ints($1)",
        sorted(license_ids),
    )
    return {
        row["license_id"]: StoredAnswer(
            license_id=row["license_id"],
            asked_at=row["asked_at"],
            asked_day=row["asked_day"],
            document=row["document"],
        )
        for row in rows
    }


async def put_answers(tx: Tx, answers: Sequence[StoredAnswer]) -> None:
    """Keep answers; one that is older than what is there is dropped. Sorted, for two nodes must not wait for one another."""
    await tx.many(
        "INSERT INTO relay_answers (license_id, asked_at, asked_day, document) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (license_id) DO UPDATE SET asked_at = excluded.asked_at, asked_day = excluded.asked_day,"
        " document = excluded.document WHERE relay_answers.asked_at <= excluded.asked_at",
        [
            (answer.license_id, answer.asked_at, answer.asked_day, answer.document)
            for answer in sorted(answers, key=lambda answer: answer.license_id)
        ],
    )


async def forget_answer(tx: Tx, license_id: int, before: Instant) -> None:
    """Drop the answer about a license that the marketplace does not know (any more)."""
    await tx.run("DELETE FROM relay_answers WHERE license_id = $1 AND asked_at <= $2", license_id, before)


async def kinds_of(tx: Tx, product_ids: Collection[int]) -> dict[int, DeliveryKind]:
    """How these products are delivered, by internal id."""
    rows = await tx.all("SELECT id, delivery_kind FROM products WHERE id IN @ints($1)", sorted(product_ids))
    return {row["id"]: DeliveryKind(row["delivery_kind"]) for row in rows}


async def policies_of(tx: Tx, license_ids: Collection[int]) -> dict[int, Policy]:
    """The terms that these licenses were issued on, by internal id."""
    rows = await tx.all("SELECT id, policy FROM licenses WHERE id IN @ints($1)", sorted(license_ids))
    return {row["id"]: msgspec.json.decode(row["policy"], type=Policy) for row in rows}


async def store_sources(tx: Tx, license_id: int, sources: ExpirySources) -> None:
    """Write what is told about the expiry of a locked license; its state row is written by whoever asked for that."""
    await tx.run(
        "UPDATE licenses SET expiry_sources = $2 WHERE id = $1", license_id, msgspec.json.encode(sources).decode()
    )


class NewUsage(msgspec.Struct, frozen=True, kw_only=True):
    """One use to tell the marketplace of, its client sealed; an empty `client_index` stands for `active_num`."""

    connection_id: int
    license_id: int
    day: int
    client_index: str
    client: bytes | None
    active_num: int | None
    at: Instant

    def __repr__(self) -> str:
        return f"NewUsage({self.license_id}, {self.day})"


async def known_usage(tx: Tx, keys: Collection[tuple[int, int, str]]) -> dict[tuple[int, int, str], int | None]:
    """What is recorded of these licenses, days and clients: the number that was told, None for a client."""
    rows = await tx.all(
        "SELECT license_id, day, client_index, active_num FROM relay_usage"
        " WHERE license_id IN @ints($1) AND day IN @ints($2) AND client_index IN @list($3)",
        sorted({license_id for license_id, _, _ in keys}),
        sorted({day for _, day, _ in keys}),
        sorted({client_index for _, _, client_index in keys}),
    )
    return {(row["license_id"], row["day"], row["client_index"]): row["active_num"] for row in rows}


async def full_days(tx: Tx, keys: Collection[tuple[int, int, str]], bound: int) -> set[tuple[int, int]]:
    """License and day of those that have counted so many clients already."""
    rows = await tx.all(
        "SELECT license_id, day FROM usage_days WHERE license_id IN @ints($1) AND day IN @ints($2) AND clients >= $3",
        sorted({license_id for license_id, _, _ in keys}),
        sorted({day for _, day, _ in keys}),
        bound,
    )
    return {(row["license_id"], row["day"]) for row in rows}


async def add_usage(tx: Tx, uses: Sequence[NewUsage]) -> None:
    """Record uses; a client that is there stays as it is, a number that has grown waits to be told again.

    Sorted, for two nodes must not wait for one another.
    """
    await tx.many(
        "INSERT INTO relay_usage (connection_id, license_id, day, client_index, client, active_num, recorded_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (license_id, day, client_index) DO UPDATE SET"
        " active_num = excluded.active_num, reported_at = NULL, refused_at = NULL"
        " WHERE relay_usage.active_num < excluded.active_num",
        [
            (use.connection_id, use.license_id, use.day, use.client_index, use.client, use.active_num, use.at)
            for use in sorted(uses, key=lambda use: (use.license_id, use.day, use.client_index))
        ],
    )


async def waiting_usage(tx: Tx, connection_id: int, *, limit: int) -> list[UsageRow]:
    """Up to `limit` uses of a connection's codes that wait to be reported, those of one license and day together."""
    rows = await tx.all(
        "SELECT u.id, u.license_id, l.public_id, u.day, u.client_index, u.client, u.active_num,"
        " (SELECT c.sealed FROM license_codes c WHERE c.license_id = u.license_id"
        " ORDER BY CASE c.kind WHEN 'marketplace' THEN 0 ELSE 1 END, c.id DESC LIMIT 1) AS code"
        " FROM relay_usage u JOIN licenses l ON l.id = u.license_id WHERE u.connection_id = $1"
        " AND u.reported_at IS NULL AND u.refused_at IS NULL ORDER BY u.day, u.license_id, u.id LIMIT $2",
        connection_id,
        limit,
    )
    return [
        UsageRow(
            id=row["id"],
            license_id=row["license_id"],
            license=row["public_id"],
            day=row["day"],
            client_index=row["client_index"],
            client=bytes(row["client"]) if row["client"] is not None else None,
            active_num=row["active_num"],
            code=bytes(row["code"]),
        )
        for row in rows
    ]


async def connections_with_usage(tx: Tx) -> list[str]:
    """Public ids of the connections that have uses to report."""
    rows = await tx.all(
        "SELECT c.public_id FROM connections c WHERE EXISTS (SELECT 1 FROM relay_usage u WHERE u.connection_id = c.id"
        " AND u.reported_at IS NULL AND u.refused_at IS NULL) ORDER BY c.id"
    )
    return [row["public_id"] for row in rows]


async def mark_reported(tx: Tx, rows: Sequence[UsageRow], now: Instant) -> None:
    """The marketplace has these uses; a number that has grown meanwhile waits on. The client's id is no longer needed."""
    await tx.many(
        "UPDATE relay_usage SET reported_at = $2, client = NULL WHERE id = $1 AND reported_at IS NULL"
        " AND COALESCE(active_num, -1) = CAST($3 AS bigint)",
        [
            (row.id, now, -1 if row.active_num is None else row.active_num)
            for row in sorted(rows, key=lambda row: row.id)
        ],
    )


async def mark_refused(tx: Tx, rows: Sequence[UsageRow], now: Instant) -> None:
    """The marketplace will never take these uses."""
    await tx.many(
        "UPDATE relay_usage SET refused_at = $2, client = NULL WHERE id = $1 AND reported_at IS NULL",
        [(row.id, now) for row in sorted(rows, key=lambda row: row.id)],
    )
