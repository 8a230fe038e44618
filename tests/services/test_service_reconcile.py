"""The nightly comparison: which orders it asks for, findings that come, stay and go, their repairs, one process at a time. On both engines."""

import asyncio
import json
from dataclasses import replace

import msgspec
import pytest

from licensesvc.domain.errors import NotRepairable
from licensesvc.domain.instants import DAY, HOUR
from licensesvc.domain.order import OrderType, placeholder_order_id
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.reconciliation import FindingKind
from licensesvc.marketplace.huawei.client import MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MarketplaceRefusal, parse_order_answer
from licensesvc.services.orders.notify_order import OUTBOX_KIND, OrderQuery
from licensesvc.services.reconciliation import reconcile
from licensesvc.services.reconciliation.reconcile import LEASE, RECOVERY, UNANSWERED, Plan, Reconciler
from licensesvc.services.reconciliation.repair_finding import dismiss_finding
from licensesvc.storage import outbox, reconciliation
from tests.services.test_service_restart import Died, Dying, audited
from tests.support_edges import change, open_shop

PLAN = Plan(begins_at=0, per_minute=60, expiring_days=14)
TOLD = {"expireTime": "20271118110000"}


class Book:
    """A marketplace that knows these orders: type and what differs in the line, by order id."""

    def __init__(self, **orders):
        self.orders = orders
        self.asked = []
        self.error = None

    async def order_query(self, _account, order_id, _line_id, _now):
        self.asked.append(order_id)
        if self.error is not None:
            raise self.error
        if order_id not in self.orders:
            raise MarketplaceRefusal("MKT.0150", "Illegal operation")
        order_type, *lines = self.orders[order_id]
        order = {
            "orderId": order_id,
            "orderType": order_type,
            "createTime": "20261118110000",
            "orderLine": [
                {
                    "orderLineId": f"{order_id}-{number:06}",
                    "chargingMode": "PERIOD",
                    "productInfo": [{"productId": "OFFI100", "linearValue": line.get("amount", 5)}],
                    "expireTime": line.get("expireTime"),
                }
                for number, line in enumerate(lines or [{}], 1)
            ],
        }
        return parse_order_answer(json.dumps({"resultCode": "MKT.0000", "orderInfo": order}).encode())


async def no_time(_seconds):
    await asyncio.sleep(0)


def reconciler(shop, book, *, rt=None, plan=PLAN):
    return Reconciler(rt or shop.rt, book, plan, sleep=no_time)


async def night(shop, book, **options):
    """One whole night, on a day of its own."""
    shop.rt.clock.now += DAY
    await reconciler(shop, book, **options).look()
    return await shop.rt.db.read(lambda tx: reconciliation.run_of(tx, shop.connection.id))


async def findings(rt):
    return await rt.db.read(lambda tx: reconciliation.page(tx, after=0, limit=100))


async def test_a_night_asks_once_for_every_order_that_is_open_and_finds_nothing_where_nothing_differs(shop):
    for number in range(4):
        await shop.sell(f"CS{number}", amount=5)
    book = Book(**{f"CS{number}": ["NEW"] for number in range(4)})

    run = await night(shop, book)

    assert book.asked == ["CS0", "CS1", "CS2", "CS3"]
    assert (run.asked, run.unanswered, run.finished_at) == (4, 0, shop.rt.clock())
    await reconciler(shop, book).look()
    assert len(book.asked) == 4
    assert await findings(shop.rt) == []
    await night(shop, book)
    assert len(book.asked) == 8


async def completed(rt, order_id):
    await change(
        rt,
        "UPDATE supervision_cases SET completed_at = 1 WHERE line_ref = (SELECT l.id FROM order_lines l"
        " JOIN orders o ON o.id = l.order_ref WHERE o.order_id = $1)",
        order_id,
    )


async def expires(rt, order_id, at, state="ISSUED"):
    await change(
        rt,
        "UPDATE license_states SET expires_at = $2, state = $3 WHERE license_id = (SELECT id FROM licenses WHERE order_id = $1)",
        order_id,
        at,
        state,
    )


async def test_which_orders_are_asked_for(shop, clock):
    started = clock.now + DAY
    names = ["open", "done", "soon", "just past", "long past", "later", "soon but over", "released and open"]
    for name in names:
        await shop.sell(name)
        if name not in {"open", "released and open"}:
            await completed(shop.rt, name)
    await shop.sell("renewal", OrderType.RENEW)
    await shop.sell(placeholder_order_id("0" * 32))
    await expires(shop.rt, "soon", started + 14 * DAY - 1)
    await expires(shop.rt, "just past", started - 14 * DAY)
    await expires(shop.rt, "long past", started - 14 * DAY - 1)
    await expires(shop.rt, "later", started + 14 * DAY)
    await expires(shop.rt, "soon but over", started, state="REVOKED")
    await expires(shop.rt, "released and open", started, state="RELEASED")
    await shop.rt.db.write(lambda tx: give_up(tx, shop, "never learned"))
    await shop.rt.db.write(lambda tx: give_up(tx, shop, "open"))
    other = await open_shop(shop.rt, name="other", sold="OFFI200")
    await other.sell("foreign")
    await shop.rt.db.write(lambda tx: give_up(tx, other, "foreign and never learned"))
    book = Book()

    await night(shop, book)

    asked = ["open", "soon", "just past", "never learned"]
    assert sorted(book.asked) == sorted([*asked, "foreign", "foreign and never learned"])


async def give_up(tx, shop, order_id):
    query = OrderQuery(connection=shop.connection.public_id, order_id=order_id, order_line_id=None)
    await outbox.add(tx, kind=OUTBOX_KIND, subject=order_id, payload=msgspec.json.encode(query).decode(), now=0)
    row = await tx.one("SELECT MAX(id) AS id FROM outbox")
    await outbox.give_up(tx, row["id"], now=0, error="x")


async def test_orders_lie_in_more_than_one_span(shop, monkeypatch):
    monkeypatch.setattr(reconciliation, "SPAN", 2)
    for number in range(7):
        await shop.sell(f"CS{number}")
        if number in {1, 2, 3, 4}:
            await completed(shop.rt, f"CS{number}")
    book = Book()

    await night(shop, book)

    assert book.asked == ["CS0", "CS5", "CS6"]


async def test_a_difference_is_found_once_and_resolves_itself(shop, clock):
    await shop.sell("CS1", amount=7)
    book = Book(CS1=["NEW"])

    await night(shop, book)
    [first] = await findings(shop.rt)
    assert (first.kind, first.ours, first.theirs, first.line_id) == (FindingKind.AMOUNT, "7", "5", "CS1-000001")
    await night(shop, book)
    [same] = await findings(shop.rt)
    assert (same.found_at, same.seen_at, same.resolved_at) == (first.found_at, clock.now, None)
    book.orders["CS1"] = ["NEW", {"amount": 6}]
    await night(shop, book)
    [retold] = await findings(shop.rt)
    assert (retold.id, retold.theirs) == (first.id, "6")
    book.orders["CS1"] = ["NEW", {"amount": 7}]
    await night(shop, book)
    [gone] = await findings(shop.rt)
    assert (gone.how, gone.resolved_by, gone.resolved_at) == ("vanished", "system", clock.now)
    book.orders["CS1"] = ["NEW", {"amount": 6}]
    await night(shop, book)
    assert [(one.how, one.theirs) for one in await findings(shop.rt)] == [("vanished", "6"), (None, "6")]
    assert len(await audited(shop.rt, "finding.found")) == 2


async def test_what_was_dismissed_stays_so_while_it_says_the_same(shop):
    await shop.sell("CS1", amount=7)
    book = Book(CS1=["NEW"])
    await night(shop, book)
    [found] = await findings(shop.rt)

    closed = await shop.rt.db.write(lambda tx: dismiss_finding(tx, shop.rt, found.public_id, "known", by="li"))
    assert (closed.how, closed.resolved_by) == ("dismissed", "li")
    await night(shop, book)
    assert len(await findings(shop.rt)) == 1
    book.orders["CS1"] = ["NEW", {"amount": 6}]
    await night(shop, book)
    assert [one.how for one in await findings(shop.rt)] == ["dismissed", None]
    with pytest.raises(NotRepairable, match="dismissed"):
        await shop.rt.db.write(lambda tx: dismiss_finding(tx, shop.rt, found.public_id, "again", by="li"))


async def test_an_order_with_a_finding_is_asked_for_until_it_is_resolved(shop):
    await shop.sell("CS1", amount=7)
    book = Book(CS1=["NEW"])
    await night(shop, book)
    await completed(shop.rt, "CS1")
    book.orders["CS1"] = ["NEW", {"amount": 7}]

    await night(shop, book)
    await night(shop, book)

    assert book.asked == ["CS1", "CS1"]
    assert [one.how for one in await findings(shop.rt)] == ["vanished"]


async def test_a_marketplace_that_does_not_answer_is_left_alone_and_asked_later(shop, clock):
    for number in range(8):
        await shop.sell(f"CS{number}", amount=5)
    book = Book(**{f"CS{number}": ["NEW"] for number in range(8)})
    book.error = MarketplaceUnreachable("time-out")

    run = await night(shop, book)
    assert (run.asked, run.unanswered, run.finished_at, run.holder) == (UNANSWERED, UNANSWERED, None, None)
    assert "time-out" in run.last_error
    await reconciler(shop, book).look()
    assert len(book.asked) == UNANSWERED
    clock.now += RECOVERY + 1
    book.error = None
    await reconciler(shop, book).look()

    assert book.asked[UNANSWERED:] == [f"CS{number}" for number in range(UNANSWERED, 8)]
    assert await findings(shop.rt) == []


async def test_a_marketplace_that_is_asked_too_often_is_left_alone_at_once(shop):
    for number in range(3):
        await shop.sell(f"CS{number}")
    book = Book()
    book.error = MarketplaceRefusal("MKT.0250", "Access frequency overlimit")

    run = await night(shop, book)

    assert (book.asked, run.finished_at) == (["CS0"], None)


async def test_an_operator_need_not_wait_for_the_marketplace_to_recover(shop):
    for number in range(4):
        await shop.sell(f"CS{number}")
    book = Book()
    book.error = MarketplaceUnreachable("time-out")
    worker = reconciler(shop, book)
    await worker.begin_now(shop.connection)
    await worker.work(shop.connection, 60)
    book.error = None

    assert (await worker.work(shop.connection, 60)).finished_at is None
    assert (await worker.work(shop.connection, 60, eager=True)).finished_at is not None


async def test_of_several_processes_one_works(shop):
    for number in range(12):
        await shop.sell(f"CS{number}")
    book = Book()
    shop.rt.clock.now += DAY

    await asyncio.gather(*(reconciler(shop, book).look() for _ in range(4)))

    assert sorted(book.asked) == sorted(f"CS{number}" for number in range(12))
    assert len(await findings(shop.rt)) == 12


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_night_that_dies_between_any_two_transactions_goes_on_where_it_was(shop, clock, moment):
    for number in range(3):
        await shop.sell(f"CS{number}", amount=7)
    book = Book(**{f"CS{number}": ["NEW"] for number in range(3)})
    deaths = 0
    for at in range(1, 13):
        clock.now += DAY
        book.asked.clear()
        dying = replace(shop.rt, db=Dying(shop.rt.db, at, moment))
        try:
            await reconciler(shop, book, rt=dying).look()
        except* Died:
            deaths += 1
        clock.now += LEASE + 1
        await reconciler(shop, book).look()

        assert len(await findings(shop.rt)) == 3
        assert len(book.asked) <= 4  # the one that was being asked for may be asked for again
        run = await shop.rt.db.read(lambda tx: reconciliation.run_of(tx, shop.connection.id))
        assert run.finished_at is not None
    assert deaths >= 8


async def test_the_pace_is_bounded_and_jittered(shop):
    for number in range(10):
        await shop.sell(f"CS{number}")
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    shop.rt.clock.now += DAY
    await Reconciler(shop.rt, Book(), PLAN, sleep=sleep).look()

    assert len(waited) == 10
    assert all(0.5 <= wait < 1.5 for wait in waited)
    assert len(set(waited)) > 1


async def test_a_night_that_needs_longer_than_a_look_goes_on_in_the_next(shop, monkeypatch):
    monkeypatch.setattr(reconcile, "EVERY_S", 0.0)
    await shop.sell("CS1")
    book = Book()
    run = await night(shop, book)
    assert (run.asked, run.finished_at) == (0, None)
    monkeypatch.setattr(reconcile, "EVERY_S", 60.0)

    await reconciler(shop, book).look()  # another process: the lease is still held
    assert book.asked == []
    shop.rt.clock.now += HOUR
    await reconciler(shop, book).look()
    assert book.asked == ["CS1"]


async def test_when_nothing_is_compared(shop):
    await shop.sell("CS1")
    book = Book()

    assert await night(shop, book, plan=msgspec.structs.replace(PLAN, begins_at=None)) is None
    assert await night(shop, book, plan=msgspec.structs.replace(PLAN, begins_at=23 * 60)) is None
    await change(shop.rt, "UPDATE connections SET api_access_key = NULL")
    assert await night(shop, book) is None
    assert book.asked == []


async def test_a_code_that_the_marketplace_made_and_nobody_told_is_no_license_to_release(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    await shop.sell("CS1")
    book = Book(CS1=["UNSUBSCRIBE"])

    await night(shop, book)

    assert await findings(rt) == []
