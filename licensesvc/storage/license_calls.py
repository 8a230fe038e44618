"""Rows of `license_calls`, and what a call of the marketplace writes to a license."""

from typing import Literal, TypeAlias

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.license import ExpirySources, LicenseView
from licensesvc.domain.marketplace_calls import Effect, Refresh, Scene
from licensesvc.storage.port import Tx

CallKind: TypeAlias = Literal["refresh", "release"]


class LicenseCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that named an order, with what became of it; ids of the order are empty where it named none."""

    kind: CallKind
    order_id: str
    order_line_id: str
    effect: Effect
    scene: Scene | None = None
    product_id: str | None = None
    expires_at: Instant | None = None


async def is_known(tx: Tx, license_id: int, kind: CallKind, order_id: str, order_line_id: str) -> bool:
    """Say whether this order has done its work on the license, which the caller has locked."""
    row = await tx.one(
        "SELECT 1 AS known FROM license_calls WHERE license_id = $1 AND kind = $2 AND order_id = $3 AND order_line_id = $4",
        license_id,
        kind,
        order_id,
        order_line_id,
    )
    return row is not None


async def insert(tx: Tx, license_id: int, call: LicenseCall, now: Instant) -> None:
    """Remember a call."""
    await tx.run(
        "INSERT INTO license_calls (license_id, kind, order_id, order_line_id, scene, product_id, expires_at, effect,"
        " received_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        license_id,
        call.kind,
        call.order_id,
        call.order_line_id,
        call.scene,
        call.product_id,
        call.expires_at,
        call.effect.value,
        now,
    )


async def refresh_in_force(tx: Tx, license_id: int, connection_id: int) -> Refresh | None:
    """The refresh that was applied last, with the time of its order where that is known by now."""
    row = await tx.one(
        "SELECT c.order_id, c.order_line_id, c.scene, c.product_id, c.expires_at, o.order_time FROM license_calls c"
        " LEFT JOIN orders o ON o.connection_id = $2 AND o.order_id = c.order_id"
        " WHERE c.license_id = $1 AND c.kind = 'refresh' AND c.effect = 'applied' ORDER BY c.id DESC LIMIT 1",
        license_id,
        connection_id,
    )
    if row is None:
        return None
    return Refresh(
        order_id=row["order_id"],
        order_line_id=row["order_line_id"],
        scene=Scene(row["scene"]) if row["scene"] else None,
        expires_at=row["expires_at"],
        product_id=row["product_id"],
        placed_at=row["order_time"],
    )


async def told_product(tx: Tx, license_id: int) -> str | None:
    """The marketplace's product that the newest refresh which named one gave the license."""
    row = await tx.one(
        "SELECT product_id FROM license_calls WHERE license_id = $1 AND kind = 'refresh' AND effect = 'applied'"
        " AND product_id IS NOT NULL ORDER BY id DESC LIMIT 1",
        license_id,
    )
    return row["product_id"] if row else None


async def order_time(tx: Tx, connection_id: int, order_id: str) -> Instant | None:
    """When an order was placed, as far as that is known; locks nothing, the license is locked already."""
    row = await tx.one(
        "SELECT order_time FROM orders WHERE connection_id = $1 AND order_id = $2", connection_id, order_id
    )
    return row["order_time"] if row else None


async def line_of_instance(tx: Tx, connection_id: int, instance_id: str) -> int | None:
    """The order line that bears an instance id (License 1.0), by internal id."""
    row = await tx.one(
        "SELECT l.id FROM order_lines l JOIN orders o ON o.id = l.order_ref"
        " WHERE l.instance_id = $1 AND o.connection_id = $2",
        instance_id,
        connection_id,
    )
    return row["id"] if row else None


async def store(tx: Tx, view: LicenseView, sources: ExpirySources, marketplace_product_id: str) -> bool:
    """Write what a call made of a locked license; False = the state row changed meanwhile."""
    await tx.run(
        "UPDATE licenses SET expiry_sources = $2, marketplace_product_id = $3 WHERE id = $1",
        view.id,
        msgspec.json.encode(sources).decode(),
        marketplace_product_id,
    )
    changed = await tx.run(
        "UPDATE license_states SET version = version + 1, state = $3, frozen_at = $4, freeze_unheeded_at = $5,"
        " expires_at = $6, expiry_source = $7 WHERE license_id = $1 AND version = $2",
        view.id,
        view.version,
        view.state.value,
        view.frozen_at,
        view.freeze_unheeded_at,
        view.expires_at,
        view.expiry_source.value,
    )
    return changed == 1
