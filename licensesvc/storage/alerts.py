"""Rows of `alerts`: changed by compare-and-swap on their version, at most one open for each connection and gauge."""

import msgspec

from licensesvc.domain.alerts import Alert
from licensesvc.domain.delisting import Gauge, Level
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_COLUMNS = (
    "id, public_id, connection_id, gauge, period, level, told_level, told_peak, told_at, incident, gauge_value,"
    " gauge_limit, opened_at, cleared_at, acknowledged_at, acknowledged_by, version"
)


class StoredAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert with what it is about; `limit` is the marketplace's when it was raised."""

    id: int
    public_id: str
    connection_id: int
    gauge: Gauge
    limit: int | None
    alert: Alert
    acknowledged_by: str | None
    version: int


def _read(row: Row) -> StoredAlert:
    return StoredAlert(
        id=row["id"],
        public_id=row["public_id"],
        connection_id=row["connection_id"],
        gauge=Gauge(row["gauge"]),
        limit=row["gauge_limit"],
        alert=Alert(
            period=row["period"],
            level=Level(row["level"]),
            told_level=Level(row["told_level"]),
            told_peak=Level(row["told_peak"]),
            told_at=row["told_at"],
            incident=row["incident"],
            value=row["gauge_value"],
            opened_at=row["opened_at"],
            cleared_at=row["cleared_at"],
            acknowledged_at=row["acknowledged_at"],
        ),
        acknowledged_by=row["acknowledged_by"],
        version=row["version"],
    )


async def insert(tx: Tx, public_id: str, connection_id: int, gauge: Gauge, alert: Alert, limit: int | None) -> bool:
    """Add an open alert; False = another process has one open, or one of this period, already."""
    added = await tx.run(
        "INSERT INTO alerts (public_id, connection_id, gauge, period, level, told_level, told_peak, told_at, incident,"
        " gauge_value, gauge_limit, opened_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        " ON CONFLICT DO NOTHING",
        public_id,
        connection_id,
        gauge.value,
        alert.period,
        alert.level.value,
        alert.told_level.value,
        alert.told_peak.value,
        alert.told_at,
        alert.incident,
        alert.value,
        limit,
        alert.opened_at,
    )
    return added == 1


async def update(tx: Tx, stored: StoredAlert) -> bool:
    """Write the alert back if the row still has `stored.version`; say whether it had."""
    alert = stored.alert
    changed = await tx.run(
        "UPDATE alerts SET level = $2, told_level = $3, told_peak = $4, told_at = $5, incident = $6, gauge_value = $7,"
        " cleared_at = $8, acknowledged_at = $9, acknowledged_by = $10, version = version + 1"
        " WHERE id = $1 AND version = $11",
        stored.id,
        alert.level.value,
        alert.told_level.value,
        alert.told_peak.value,
        alert.told_at,
        alert.incident,
        alert.value,
        alert.cleared_at,
        alert.acknowledged_at,
        stored.acknowledged_by if alert.acknowledged_at is not None else None,
        stored.version,
    )
    return changed == 1


async def by_public_id(tx: Tx, public_id: str) -> StoredAlert | None:
    """Find one alert."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM alerts WHERE public_id = $1", public_id)
    return _read(row) if row else None


async def concerned(tx: Tx, connection_id: int, periods: list[str]) -> list[StoredAlert]:
    """The alerts of a connection that are open or belong to one of these periods."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM alerts WHERE connection_id = $1 AND (cleared_at IS NULL OR period IN @list($2))",
        connection_id,
        periods,
    )
    return [_read(row) for row in rows]


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredAlert]:
    """Up to `limit` alerts with an internal id above `after`, ascending; conditions name `a`."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM alerts a WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_read(row) for row in rows]
