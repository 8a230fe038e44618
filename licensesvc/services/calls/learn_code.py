"""Learns a code that the marketplace made from its own call, where the connection says so (spec §2.1).

Only from calls that the marketplace has signed: whoever holds a credential of end-user software could invent codes.
"""

from licensesvc.domain.connection import Connection, UnknownCodes
from licensesvc.domain.errors import LicenseNotFound
from licensesvc.domain.instants import Instant
from licensesvc.domain.marketplace_calls import may_be_learned
from licensesvc.domain.order import OrderFacts, OrderType, placeholder_order_id
from licensesvc.domain.product import DeliveryKind, Product
from licensesvc.services.licenses.adopt_license import LEARNED
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.runtime import Runtime
from licensesvc.storage import catalog
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx


async def learn_code(
    tx: Tx,
    rt: Runtime,
    connection: Connection,
    code: str,
    *,
    marketplace_product_id: str | None,
    ends_at: Instant | None,
    by: str,
) -> LoadedLicense:
    """Make the license of a code that nobody has told of, on an order that stands in for the real one until that is known.

    `ends_at` is the end as far as the call tells it. Raises LicenseNotFound: the connection does not learn, the code cannot be the
    marketplace's, or it does not tell for which product it is.
    """
    if connection.unknown_codes is not UnknownCodes.LEARN or not may_be_learned(code):
        raise LicenseNotFound
    product = await _product(tx, connection, marketplace_product_id)
    if product is None:
        raise LicenseNotFound("the license code is unknown, and for which product it is cannot be told")
    facts = OrderFacts(
        # By the code itself: two processes that learn it at once meet in one order.
        order_id=placeholder_order_id(rt.vault.index("learned-order", code)),
        order_type=OrderType.NEW,
        marketplace_product_id=product.marketplace_product_id,
        sku_code=product.sku_code or None,
        expiry_estimate=rt.clock() if ends_at is None else ends_at,
    )
    received = await receive_line(tx, rt, connection, facts, buyer=None, source=LEARNED, by=by, marketplace_code=code)
    assert received.license is not None
    return received.license


async def _product(tx: Tx, connection: Connection, marketplace_product_id: str | None) -> Product | None:
    """The product that the call names, for any sku or the only one; without a name the only one there is."""
    found = await catalog.products_of_kind(
        tx, connection.id, DeliveryKind.LICENSE_2_0, mapped_to=marketplace_product_id, limit=2
    )
    clear = len(found) == 1 or (marketplace_product_id is not None and found and not found[0].sku_code)
    return found[0] if clear else None
