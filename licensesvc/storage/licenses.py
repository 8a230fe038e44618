"""Rows of `licenses`, `license_states` and `license_codes`."""

from collections.abc import Collection, Sequence

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.license import ExpirySource, ExpirySources, LicenseState, LicenseView
from licensesvc.domain.policy import Policy
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_VIEW = (
    "l.id, l.public_id, l.connection_id, l.product_id, l.line_ref, l.order_id, l.marketplace_product_id, l.amount,"
    " l.order_time, l.expiry_sources, l.code_hint, s.state, s.version, s.activated_at, s.service_start, s.expires_at,"
    " s.expiry_source, s.settled_at, s.frozen_at, s.freeze_unheeded_at, s.suspended_at, s.last_seen_at, s.seats,"
    " s.seats_taken"
)
_FROM = "licenses l JOIN license_states s ON s.license_id = l.id"
_EACH_STATE = ", ".join(f"count(*) FILTER (WHERE state = '{state}') AS {state.lower()}" for state in LicenseState)


class LoadedLicense(msgspec.Struct, frozen=True, kw_only=True):
    """A license as decisions need it, with the facts that answers repeat."""

    view: LicenseView
    line_ref: int
    order_id: str
    marketplace_product_id: str
    amount: int | None
    code_hint: str
    last_seen_at: Instant | None
    sources_json: str

    @property
    def sources(self) -> ExpirySources:
        """What each source told about the expiry; decoded on demand, most calls do not need it."""
        return msgspec.json.decode(self.sources_json, type=ExpirySources)


class NewLicense(msgspec.Struct, frozen=True, kw_only=True):
    """What a license is created from."""

    public_id: str
    line_ref: int
    connection_id: int
    product_id: int
    order_id: str
    marketplace_product_id: str
    amount: int | None
    order_time: Instant
    policy: Policy
    sources: ExpirySources
    expires_at: Instant | None
    expiry_source: ExpirySource
    seats: int
    code_hint: str


def _loaded(row: Row) -> LoadedLicense:
    return LoadedLicense(
        view=LicenseView(
            id=row["id"],
            public_id=row["public_id"],
            connection_id=row["connection_id"],
            product_id=row["product_id"],
            state=LicenseState(row["state"]),
            version=row["version"],
            order_time=row["order_time"],
            activated_at=row["activated_at"],
            service_start=row["service_start"],
            expires_at=row["expires_at"],
            expiry_source=ExpirySource(row["expiry_source"]),
            settled_at=row["settled_at"],
            frozen_at=row["frozen_at"],
            freeze_unheeded_at=row["freeze_unheeded_at"],
            suspended_at=row["suspended_at"],
            seats=row["seats"],
            seats_taken=row["seats_taken"],
        ),
        line_ref=row["line_ref"],
        order_id=row["order_id"],
        marketplace_product_id=row["marketplace_product_id"],
        amount=row["amount"],
        code_hint=row["code_hint"],
        last_seen_at=row["last_seen_at"],
        sources_json=row["expiry_sources"],
    )


async def insert(tx: Tx, new: NewLicense, now: Instant) -> int:
    """Add a license in state ISSUED; return its internal id."""
    row = await tx.one(
        "INSERT INTO licenses (public_id, line_ref, connection_id, product_id, order_id, marketplace_product_id,"
        " amount, order_time, policy, expiry_sources, code_hint, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
        new.public_id,
        new.line_ref,
        new.connection_id,
        new.product_id,
        new.order_id,
        new.marketplace_product_id,
        new.amount,
        new.order_time,
        msgspec.json.encode(new.policy).decode(),
        msgspec.json.encode(new.sources).decode(),
        new.code_hint,
        now,
    )
    assert row is not None
    license_id = int(row["id"])
    await tx.run(
        "INSERT INTO license_states (license_id, state, expires_at, expiry_source, seats) VALUES ($1, $2, $3, $4, $5)",
        license_id,
        LicenseState.ISSUED.value,
        new.expires_at,
        new.expiry_source.value,
        new.seats,
    )
    return license_id


async def add_code(tx: Tx, license_id: int, *, kind: str, code_index: str, sealed: bytes, now: Instant) -> None:
    """Give a license one more identity."""
    await tx.run(
        "INSERT INTO license_codes (license_id, kind, code_index, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        license_id,
        kind,
        code_index,
        sealed,
        now,
    )


async def sealed_code(tx: Tx, license_id: int) -> bytes:
    """The newest code of a license, sealed: its own, or the marketplace's."""
    row = await tx.one(
        "SELECT sealed FROM license_codes WHERE license_id = $1 ORDER BY CASE kind WHEN 'own' THEN 0 ELSE 1 END, id DESC LIMIT 1",
        license_id,
    )
    assert row is not None
    return bytes(row["sealed"])


async def sealed_codes(tx: Tx, license_id: int) -> dict[str, bytes]:
    """Every code of a license, sealed, by its index."""
    rows = await tx.all("SELECT code_index, sealed FROM license_codes WHERE license_id = $1", license_id)
    return {row["code_index"]: bytes(row["sealed"]) for row in rows}


async def by_codes(tx: Tx, indexes: Sequence[str], *, lock: bool) -> dict[str, LoadedLicense]:
    """Load the licenses that these code indexes name, in one statement; `lock` keeps them until the commit."""
    rows = await tx.all(
        f"SELECT c.code_index, {_VIEW} FROM {_FROM} JOIN license_codes c ON c.license_id = l.id"
        " WHERE c.code_index IN @list($1) ORDER BY l.id" + (" @lock(l, s)" if lock else ""),
        list(indexes),
    )
    return {row["code_index"]: _loaded(row) for row in rows}


async def by_instances(tx: Tx, instance_ids: Sequence[str]) -> dict[str, LoadedLicense]:
    """Load the licenses whose lines bear these instance ids (License 1.0), locked until the commit."""
    rows = await tx.all(
        f"SELECT o.instance_id, {_VIEW} FROM {_FROM} JOIN order_lines o ON o.id = l.line_ref"
        " WHERE o.instance_id IN @list($1) ORDER BY l.id @lock(l, s)",
        list(instance_ids),
    )
    return {row["instance_id"]: _loaded(row) for row in rows}


async def by_code(tx: Tx, index: str) -> LoadedLicense | None:
    """Load the license that one code index names."""
    return (await by_codes(tx, [index], lock=False)).get(index)


async def by_public_id(tx: Tx, public_id: str, *, lock: bool = False) -> LoadedLicense | None:
    """Load a license by our id."""
    row = await tx.one(
        f"SELECT {_VIEW} FROM {_FROM} WHERE l.public_id = $1" + (" @lock(l, s)" if lock else ""), public_id
    )
    return _loaded(row) if row else None


async def by_line(tx: Tx, line_ref: int, *, lock: bool = False) -> LoadedLicense | None:
    """Load the license of an order line."""
    row = await tx.one(
        f"SELECT {_VIEW} FROM {_FROM} WHERE l.line_ref = $1" + (" @lock(l, s)" if lock else ""), line_ref
    )
    return _loaded(row) if row else None


async def named_by(tx: Tx, connection_id: int, *, index: str | None, instance_id: str | None) -> int | None:
    """The internal id of the connection's license with this code index, or whose line has this instance id."""
    row = await tx.one(
        "SELECT l.id FROM licenses l WHERE l.connection_id = $1 AND (l.id = (SELECT license_id FROM license_codes"
        " WHERE code_index = $2) OR l.line_ref = (SELECT id FROM order_lines WHERE instance_id = $3)) LIMIT 1",
        connection_id,
        index,
        instance_id,
    )
    return int(row["id"]) if row else None


async def by_id(tx: Tx, license_id: int, *, lock: bool = False) -> LoadedLicense:
    """Load a license that a foreign key promises."""
    row = await tx.one(f"SELECT {_VIEW} FROM {_FROM} WHERE l.id = $1" + (" @lock(l, s)" if lock else ""), license_id)
    assert row is not None
    return _loaded(row)


async def public_ids_of_lines(tx: Tx, line_refs: Collection[int]) -> dict[int, str]:
    """Our ids of the licenses of these order lines, by internal id of the line."""
    rows = await tx.all("SELECT line_ref, public_id FROM licenses WHERE line_ref IN @ints($1)", sorted(line_refs))
    return {row["line_ref"]: row["public_id"] for row in rows}


async def policy_of(tx: Tx, license_id: int) -> Policy:
    """The terms that the license was issued on."""
    row = await tx.one("SELECT policy FROM licenses WHERE id = $1", license_id)
    assert row is not None
    return msgspec.json.decode(row["policy"], type=Policy)


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[LoadedLicense]:
    """Up to `limit` licenses with an internal id above `after`, ascending; conditions name `l` (license) and `s` (state)."""
    rows = await tx.all(
        f"SELECT {_VIEW} FROM {_FROM} WHERE l.id > $1{where.sql(3)} ORDER BY l.id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_loaded(row) for row in rows]


async def store_activated(tx: Tx, views: Sequence[LicenseView]) -> None:
    """Write the first activation of locked licenses; each view carries its new values and the version that it read."""
    await tx.many(
        "UPDATE license_states SET state = 'ACTIVE', version = version + 1, activated_at = $3, service_start = $4,"
        " expires_at = $5, expiry_source = $6, last_seen_at = $3 WHERE license_id = $1 AND version = $2",
        [(v.id, v.version, v.activated_at, v.service_start, v.expires_at, v.expiry_source.value) for v in views],
    )


async def store_terms(tx: Tx, view: LicenseView, sources: ExpirySources, amount: int | None) -> bool:
    """Write what a source newly told: order time, amount, seats and expiry; False = the state row changed meanwhile."""
    await tx.run(
        "UPDATE licenses SET order_time = $2, amount = $3, expiry_sources = $4 WHERE id = $1",
        view.id,
        view.order_time,
        amount,
        msgspec.json.encode(sources).decode(),
    )
    changed = await tx.run(
        "UPDATE license_states SET version = version + 1, expires_at = $3, expiry_source = $4, seats = $5"
        " WHERE license_id = $1 AND version = $2",
        view.id,
        view.version,
        view.expires_at,
        view.expiry_source.value,
        view.seats,
    )
    return changed == 1


async def store_change(tx: Tx, view: LicenseView, sources: ExpirySources) -> bool:
    """Write what the seller changed of a locked license; False = the state row changed meanwhile."""
    await tx.run(
        "UPDATE licenses SET expiry_sources = $2 WHERE id = $1", view.id, msgspec.json.encode(sources).decode()
    )
    changed = await tx.run(
        "UPDATE license_states SET version = version + 1, state = $3, suspended_at = $4, expires_at = $5,"
        " expiry_source = $6, seats = $7 WHERE license_id = $1 AND version = $2",
        view.id,
        view.version,
        view.state.value,
        view.suspended_at,
        view.expires_at,
        view.expiry_source.value,
        view.seats,
    )
    return changed == 1


async def store_quantity(tx: Tx, license_id: int, amount: int, policy: Policy) -> None:
    """Write the amount, and the license's own terms, that a changed quantity leads to."""
    await tx.run(
        "UPDATE licenses SET amount = $2, policy = $3 WHERE id = $1",
        license_id,
        amount,
        msgspec.json.encode(policy).decode(),
    )


async def code_kinds(tx: Tx, license_id: int) -> set[str]:
    """Whose codes the license has: `own`, `marketplace` or both."""
    rows = await tx.all("SELECT kind FROM license_codes WHERE license_id = $1", license_id)
    return {row["kind"] for row in rows}


async def replace_own_code(
    tx: Tx, view: LicenseView, *, code_index: str, sealed: bytes, hint: str, now: Instant
) -> None:
    """Give the locked license a new code of ours; the one before finds nothing from now on."""
    await tx.run("DELETE FROM license_codes WHERE license_id = $1 AND kind = 'own'", view.id)
    await add_code(tx, view.id, kind="own", code_index=code_index, sealed=sealed, now=now)
    await tx.run("UPDATE licenses SET code_hint = $2 WHERE id = $1", view.id, hint)
    await tx.run("UPDATE license_states SET version = version + 1 WHERE license_id = $1", view.id)


async def move_to_line(
    tx: Tx, view: LicenseView, *, line_ref: int, order_id: str, marketplace_product_id: str, policy: Policy
) -> bool:
    """Hang a locked license on another order line, with that line's product and terms; False = the state row changed meanwhile."""
    await tx.run(
        "UPDATE licenses SET line_ref = $2, order_id = $3, product_id = $4, marketplace_product_id = $5, policy = $6"
        " WHERE id = $1",
        view.id,
        line_ref,
        order_id,
        view.product_id,
        marketplace_product_id,
        msgspec.json.encode(policy).decode(),
    )
    changed = await tx.run(
        "UPDATE license_states SET version = version + 1, seats = $3 WHERE license_id = $1 AND version = $2",
        view.id,
        view.version,
        view.seats,
    )
    return changed == 1


async def store_service_start(tx: Tx, view: LicenseView) -> None:
    """Write start of service and expiry of a locked license that no software has activated yet."""
    await tx.run(
        "UPDATE license_states SET version = version + 1, service_start = $3, expires_at = $4, expiry_source = $5"
        " WHERE license_id = $1 AND version = $2",
        view.id,
        view.version,
        view.service_start,
        view.expires_at,
        view.expiry_source.value,
    )


async def settle(tx: Tx, line_ref: int, at: Instant | None) -> None:
    """Record when the supervision of the license of this line, if it has one, was completed; None = it is not any more."""
    await tx.run(
        "UPDATE license_states SET version = version + 1, settled_at = $2"
        " WHERE license_id = (SELECT id FROM licenses WHERE line_ref = $1)",
        line_ref,
        at,
    )


async def store_seen(tx: Tx, seen: Sequence[tuple[int, Instant]]) -> None:
    """Record (license id, instant) of heartbeats; an instant never goes back."""
    await tx.many(
        "UPDATE license_states SET last_seen_at = $2"
        " WHERE license_id = $1 AND (last_seen_at IS NULL OR last_seen_at < CAST($2 AS bigint))",
        seen,
    )


async def count_by_state(tx: Tx) -> dict[LicenseState, int]:
    """How many licenses are in each stored state; reads the whole narrow table (once: GROUP BY would sort it), so ask seldom."""
    row = await tx.one(f"SELECT {_EACH_STATE} FROM license_states")
    assert row is not None
    return {state: row[state.lower()] for state in LicenseState}
