"""What the relay reads and writes, each in one transaction: a code with its last answer, an activation, a code that is learned.

In: functions of a transaction, and hot verbs. Out: every call to the marketplace (`relay_calls`), the decisions (`relay`).
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from licensesvc.domain.activation import decide_activation
from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import InvalidParameter, LicenseNotFound, OrderConflict
from licensesvc.domain.instants import Instant, parse_stamp
from licensesvc.domain.license import LicenseState, LicenseView
from licensesvc.domain.order import OrderFacts, OrderType, default_line_id
from licensesvc.domain.product import DeliveryKind, Product
from licensesvc.marketplace.huawei.answers import CodeFacts
from licensesvc.services.licenses.activate import IntoService
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.relay.relay_receipt import make_receipt
from licensesvc.services.runtime import Runtime
from licensesvc.storage import catalog, licenses, orders, relay
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.orders import StoredLine
from licensesvc.storage.port import Tx
from licensesvc.storage.relay import StoredAnswer

SOURCE: Final = "relay"
MAX_LINES: Final = 1_000
"""Of one order, tried for a place for a learned code."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One code that software names; `seen` says that this is a query. `product_id` None = any product of the connection."""

    code_index: str
    connection_id: int
    product_id: int | None
    seen: bool
    now: Instant


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What we know: the license (None: nothing), whether the marketplace makes its code, its last answer."""

    license: LoadedLicense | None
    relayed: bool
    answer: StoredAnswer | None


async def look(tx: Tx, commands: Sequence[Look]) -> Sequence[Known | Exception]:
    """Hot verb: look all waiting codes up and record when those in service were last seen. Foreign codes: LicenseNotFound."""
    found = await licenses.by_codes(tx, list({command.code_index for command in commands}), lock=False)
    own = {index: loaded for index, loaded in found.items() if any(_owns(command, loaded.view) for command in commands)}
    answers = await relay.answers_of(tx, {loaded.view.id for loaded in own.values()})
    products = {loaded.view.product_id for loaded in own.values()}
    products |= {command.product_id for command in commands if command.product_id is not None}
    kinds = await relay.kinds_of(tx, products)
    seen: dict[int, Instant] = {}
    results: list[Known | Exception] = []
    for command in commands:
        loaded = found.get(command.code_index)
        if loaded is None:
            relayed = command.product_id is None or kinds.get(command.product_id) is DeliveryKind.LICENSE_2_0
            results.append(Known(license=None, relayed=relayed, answer=None))
        elif not _owns(command, loaded.view):
            results.append(LicenseNotFound())
        else:
            view = loaded.view
            if command.seen and view.state is LicenseState.ACTIVE:
                seen[view.id] = max(command.now, seen.get(view.id, command.now))
            relayed = kinds[view.product_id] is DeliveryKind.LICENSE_2_0
            results.append(Known(license=loaded, relayed=relayed, answer=answers.get(view.id)))
    if seen:
        await licenses.store_seen(tx, sorted(seen.items()))
    return results


def _owns(command: Look, view: LicenseView) -> bool:
    return view.connection_id == command.connection_id and command.product_id in {None, view.product_id}


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """One answer to keep; `day` is None when it did not answer a query."""

    license: LoadedLicense
    facts: CodeFacts
    expires_at: Instant | None
    day: str | None
    now: Instant


Keeping: TypeAlias = tuple[Runtime, Keep]


async def keep_answers(tx: Tx, commands: Sequence[Keeping]) -> Sequence[None]:
    """Hot verb: sign all waiting answers and store them."""
    policies = await relay.policies_of(tx, {command.license.view.id for _, command in commands})
    latest: dict[int, StoredAnswer] = {}
    for rt, command in commands:
        view = command.license.view
        document = make_receipt(
            rt,
            view.public_id,
            command.facts,
            expires_at=command.expires_at,
            offline_days=policies[view.id].offline_days,
            day=command.day,
            now=command.now,
        )
        latest[view.id] = StoredAnswer(
            license_id=view.id, asked_at=command.now, asked_day=command.day, document=document
        )
    await relay.put_answers(tx, list(latest.values()))
    return [None] * len(commands)


class Activated(msgspec.Struct, frozen=True, kw_only=True):
    """A code that the marketplace has in service; `facts` as far as it told them."""

    connection: Connection
    product_id: int | None
    code: str
    code_index: str
    facts: CodeFacts | None
    real_effect_time: Instant | None
    now: Instant
    by: str


async def record_activations(tx: Tx, rt: Runtime, codes: Sequence[Activated]) -> list[LoadedLicense]:
    """Put the licenses of these codes into service as the marketplace has; one that is in service already stays as it is.

    A code that nobody has told us of is learned first: order, line and license. Raises LicenseNotFound when its product is not mapped or
    not the caller's, IllegalLicenseState, and what receiving an order raises.
    """
    known = await licenses.by_codes(tx, [code.code_index for code in codes], lock=False)
    for code in codes:  # before any license is locked: orders come first
        if code.code_index not in known:
            await _learn(tx, rt, code)
    found = await licenses.by_codes(tx, [code.code_index for code in codes], lock=True)
    service = IntoService()
    for code in codes:
        loaded = found[code.code_index]
        if (loaded.view.connection_id, code.product_id or loaded.view.product_id) != (
            code.connection.id,
            loaded.view.product_id,
        ):
            raise LicenseNotFound  # learned meanwhile for another credential
        if service.current(loaded) is not loaded.view or loaded.view.state is not LicenseState.ISSUED:
            continue  # twice in one list, or activated by somebody else meanwhile
        decision = decide_activation(
            loaded.view,
            connection_id=code.connection.id,
            product_id=code.product_id,
            now=code.now,
            real_effect_time=None,
        )
        if code.real_effect_time is not None:  # the marketplace knows when the order was placed, and has accepted it
            decision = msgspec.structs.replace(decision, service_start=code.real_effect_time)
        told = expiry_of(code.facts, code.connection)
        if told is not None and told != loaded.sources.estimate:
            sources = msgspec.structs.replace(loaded.sources, estimate=told)
            await relay.store_sources(tx, loaded.view.id, sources)
            loaded = msgspec.structs.replace(loaded, sources_json=msgspec.json.encode(sources).decode())
        service.put(loaded, decision, calendar=code.connection.calendar, actor=code.by)
    await service.store(tx)
    after = await licenses.by_codes(tx, [code.code_index for code in codes], lock=False)
    return [after[code.code_index] for code in codes]


def expiry_of(facts: CodeFacts | None, connection: Connection) -> Instant | None:
    """When the marketplace says that a code ends; None where it says nothing that we can read."""
    if facts is None or facts.expire_time is None:
        return None
    try:
        return parse_stamp(facts.expire_time, connection.wire)
    except InvalidParameter:
        return None


async def _learn(tx: Tx, rt: Runtime, code: Activated) -> None:
    facts = code.facts
    if facts is None or facts.product_id is None or facts.order_id is None:
        raise LicenseNotFound
    product = await check_product(tx, code.connection, code.product_id, facts.product_id)
    estimate = expiry_of(facts, code.connection)
    told = OrderFacts(
        order_id=facts.order_id,
        order_type=OrderType.NEW,
        line_id=await _free_line(tx, code.connection.id, facts.order_id, product),
        marketplace_product_id=facts.product_id,
        sku_code=product.sku_code or None,
        amount=facts.amount,
        expiry_estimate=estimate,
        presumed_one_time=True if estimate is None else None,
    )
    received = await receive_line(
        tx, rt, code.connection, told, buyer=None, source=SOURCE, by=code.by, marketplace_code=code.code
    )
    if received.license is None:
        raise OrderConflict(f"order {facts.order_id} is of type {received.order.order_type}: it buys no code")


async def check_product(tx: Tx, connection: Connection, product_id: int | None, sold: str | None) -> Product:
    """The product of a code that nobody has told us of: the credential's own, or the one that takes every SKU.

    LicenseNotFound when `sold`, the marketplace's product id, is another one or is not mapped: strangers learn nothing.
    """
    if product_id is not None:
        product: Product | None = await catalog.product_by_id(tx, product_id)
    else:
        product = await catalog.product_for(tx, connection.id, sold or "", "")
    if (
        product is None
        or product.marketplace_product_id != sold
        or product.delivery_kind is not DeliveryKind.LICENSE_2_0
    ):
        raise LicenseNotFound
    return product


async def _free_line(tx: Tx, connection_id: int, order_id: str, product: Product) -> str:
    """The line that a code belongs to, which the marketplace does not tell: the first of its product without a code, else a new one."""
    order = await orders.find(tx, connection_id, order_id)
    lines: list[StoredLine] = [] if order is None else await orders.lines_of(tx, [order.id])
    for line in lines:
        if line.product_id == product.id and await licenses.by_line(tx, line.id) is None:
            return line.line_id
    taken = {line.line_id for line in lines}
    if default_line_id(order_id) not in taken:
        return default_line_id(order_id)
    for number in range(2, MAX_LINES + 1):
        if (line_id := f"{order_id}-{number:06}") not in taken:
            return line_id
    raise OrderConflict(f"order {order_id} has {MAX_LINES} lines")
