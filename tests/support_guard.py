"""Messages of the marketplace as they are stored, and what the guard and the audit say about them."""

import msgspec

from licensesvc.services.guard.declare_to_guard import (
    DeclareOnSale,
    ReportFailedOrders,
    declare_on_sale,
    report_failed_orders,
)
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.storage import alerts, messages


async def said(shop, activity="getLicense", order="CS1", *, at, outcome="000005", purpose="live", **fields):
    """One message of the marketplace, with its answer."""
    message = messages.Message(
        **{
            "public_id": shop.rt.new_id("msg", at),
            "connection_id": shop.connection.id,
            "direction": "in",
            "activity": activity,
            "order_id": order,
            "authenticated_at": at,
            "received_at": at,
            "request": "{}",
            "response": "{}",
            "outcome": outcome,
            "detail": None,
            "address": None,
            "duration_ms": 1,
            "purpose": purpose,
            **fields,
        }
    )
    await shop.rt.db.write(lambda tx: messages.insert(tx, message))


async def read(shop, watch=None):
    report = await (watch or DelistingWatch(shop.rt)).report(shop.connection.public_id)
    return report, {gauge: reading.value for gauge, reading in report.readings.items()}


async def declared(shop, on_sale):
    return await shop.rt.db.write(
        lambda tx: declare_on_sale(tx, shop.rt, shop.connection.public_id, DeclareOnSale(on_sale=on_sale), by="ops")
    )


async def reported(shop, month, count):
    command = ReportFailedOrders(month=month, failed_orders=count)
    return await shop.rt.db.write(
        lambda tx: report_failed_orders(tx, shop.rt, shop.connection.public_id, command, by="ops")
    )


async def story(rt):
    """Every alert event that the audit has, in order."""
    found = await rt.db.read(
        lambda tx: tx.all("SELECT kind, detail FROM audit_events WHERE kind LIKE 'alert.%' ORDER BY at, chain, seq")
    )
    return [
        (row["kind"].removeprefix("alert."), detail.get("level"), detail.get("told"))
        for row in found
        for detail in [msgspec.json.decode(row["detail"])]
    ]


async def one_alert(rt):
    (alert,) = await rt.db.read(lambda tx: alerts.page(tx, after=0, limit=10))
    return alert
