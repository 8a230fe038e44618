"""Rows of `usage_days` and `usage_clients`: how many used a license on a day, and whom that day has counted already.

The rows of clients only keep a day from counting one twice; retention drops them soon after. Their key begins with license and day,
so that a day's rows lie together.
"""

from collections.abc import Sequence

import msgspec

from licensesvc.domain.usage import DayUse, admitted
from licensesvc.storage.port import Tx


class UsedDay(msgspec.Struct, frozen=True, kw_only=True):
    """One license on one day; `active_num` is the largest number that the software stated, None where it stated none."""

    day: int
    clients: int
    active_num: int | None


class ProductDay(msgspec.Struct, frozen=True, kw_only=True):
    """All licenses of a product on one day: how many reported, and the sums of what they reported."""

    day: int
    licenses: int
    clients: int
    active_num: int | None


async def add(tx: Tx, uses: Sequence[DayUse]) -> None:
    """Count what `domain.usage.merged` has put together; what is known already writes nothing."""
    keys = {_key(use, client): (use.license_id, use.day) for use in uses for client in use.clients}
    fresh = await _unknown(tx, keys)
    telling = {keys[key] for key in fresh}
    rows = [
        (use.license_id, use.day, use.active_num)
        for use in uses
        if use.active_num is not None or (use.license_id, use.day) in telling
    ]
    if not rows:
        return
    # Whoever has the row of the day counts alone, so that two nodes never count one client twice.
    await tx.many(
        "INSERT INTO usage_days AS u (license_id, day, active_num) VALUES ($1, $2, $3)"
        " ON CONFLICT (license_id, day) DO UPDATE SET active_num ="
        " CASE WHEN u.active_num > excluded.active_num THEN u.active_num"
        " ELSE COALESCE(excluded.active_num, u.active_num) END",
        rows,
    )
    if fresh:
        await _count(tx, {key: keys[key] for key in await _unknown(tx, fresh)})


async def _count(tx: Tx, fresh: dict[str, tuple[int, int]]) -> None:
    by_day: dict[tuple[int, int], list[str]] = {}
    for key, place in fresh.items():
        by_day.setdefault(place, []).append(key)
    counted = await tx.all(
        "SELECT license_id, day, clients FROM usage_days WHERE license_id IN @ints($1) AND day IN @ints($2)",
        sorted({license_id for license_id, _ in by_day}),
        sorted({day for _, day in by_day}),
    )
    clients = {(row["license_id"], row["day"]): int(row["clients"]) for row in counted}
    taken = {place: admitted(clients[place], by_day[place]) for place in sorted(by_day)}
    await tx.many(
        "INSERT INTO usage_clients (client_key, day) VALUES ($1, $2)",
        [(key, day) for (_, day), keys in taken.items() for key in keys],
    )
    await tx.many(
        "UPDATE usage_days SET clients = clients + CAST($3 AS bigint) WHERE license_id = $1 AND day = $2",
        [(license_id, day, len(keys)) for (license_id, day), keys in taken.items() if keys],
    )


async def _unknown(tx: Tx, keys: Sequence[str] | dict[str, tuple[int, int]]) -> list[str]:
    if not keys:
        return []
    rows = await tx.all("SELECT client_key FROM usage_clients WHERE client_key IN @list($1)", list(keys))
    known = {row["client_key"] for row in rows}
    return [key for key in keys if key not in known]


def _key(use: DayUse, client: str) -> str:
    return f"{use.license_id}-{use.day}-{client}"


async def of_license(tx: Tx, license_id: int, first: int, last: int) -> list[UsedDay]:
    """The days of a license between two, both included, ascending; days without a report are missing."""
    rows = await tx.all(
        "SELECT day, clients, active_num FROM usage_days WHERE license_id = $1 AND day BETWEEN $2 AND $3 ORDER BY day",
        license_id,
        first,
        last,
    )
    return [UsedDay(day=row["day"], clients=row["clients"], active_num=row["active_num"]) for row in rows]


async def of_product(tx: Tx, product_id: int, first: int, last: int) -> list[ProductDay]:
    """The days of all licenses of a product together; reads a row for each license and day."""
    rows = await tx.all(
        "SELECT u.day, count(*) AS licenses, CAST(sum(u.clients) AS bigint) AS clients,"
        " CAST(sum(u.active_num) AS bigint) AS active_num"
        " FROM licenses l JOIN usage_days u ON u.license_id = l.id"
        " WHERE l.product_id = $1 AND u.day BETWEEN $2 AND $3 GROUP BY u.day ORDER BY u.day",
        product_id,
        first,
        last,
    )
    return [
        ProductDay(day=row["day"], licenses=row["licenses"], clients=row["clients"], active_num=row["active_num"])
        for row in rows
    ]
