"""Repairs of what the nightly comparison found: the marketplace is asked again, each kind is put right once. On both engines."""

import asyncio
import json

import pytest

from licensesvc.domain.errors import MarketplaceNotAsked, NotFound, NotRepairable
from licensesvc.domain.instants import parse_rfc3339
from licensesvc.domain.reconciliation import FindingKind, Repair, repair_of
from licensesvc.marketplace.huawei.client import MarketplaceUnreachable
from licensesvc.services.reconciliation.repair_finding import repair_finding
from tests.services.test_service_reconcile import Book, findings, give_up, night
from tests.services.test_service_restart import audited
from tests.support_edges import change, open_shop, rows

TOLD = {"expireTime": "20271118110000"}


async def only(shop):
    [found] = [one for one in await findings(shop.rt) if one.resolved_at is None]
    return found


async def repaired(shop, book):
    return await repair_finding(shop.rt, book, (await only(shop)).public_id, "ticket", by="li")


async def license_row(rt):
    return await rt.db.read(
        lambda tx: tx.one("SELECT s.*, l.amount FROM license_states s JOIN licenses l ON l.id = s.license_id")
    )


async def test_a_cancelled_order_is_repaired_by_releasing_its_license(shop):
    await shop.sell("CS1")
    book = Book(CS1=["UNSUBSCRIBE"])
    await night(shop, book)
    assert (await only(shop)).kind is FindingKind.CANCELLED

    done = await repaired(shop, book)

    assert (done.how, done.resolved_by) == ("repaired", "li")
    assert (await license_row(shop.rt))["state"] == "RELEASED"
    [(actor, _, detail)] = await audited(shop.rt, "license.released")
    assert (actor, detail["source"]) == ("li", "reconciliation")
    [(_, _, detail)] = await audited(shop.rt, "finding.repaired")
    assert detail["reason"] == "ticket"
    await night(shop, book)
    assert len(await findings(shop.rt)) == 1


async def test_another_end_is_repaired_by_believing_the_marketplace(shop):
    earlier = parse_rfc3339("2027-05-01T00:00:00Z")
    await shop.sell("CS1", amount=5, expiry_order_query=earlier)
    book = Book(CS1=["NEW", TOLD])
    await night(shop, book)
    found = await only(shop)
    assert (found.kind, found.ours, found.theirs) == (
        FindingKind.EXPIRY,
        "2027-05-01T00:00:00.000Z",
        "2027-11-18T11:00:00.000Z",
    )

    await repaired(shop, book)

    terms = await shop.rt.db.read(lambda tx: tx.one("SELECT terms FROM order_lines"))
    assert json.loads(terms["terms"])["expiry_order_query"] == parse_rfc3339("2027-11-18T11:00:00Z")
    await night(shop, book)
    assert [one.how for one in await findings(shop.rt)] == ["repaired"]


async def test_another_amount_is_repaired_but_no_taken_seat_is_lost(shop):
    await shop.sell("CS1", amount=7)
    await change(shop.rt, "UPDATE license_states SET seats_taken = 6")
    book = Book(CS1=["NEW", {"amount": 2}])
    await night(shop, book)

    await repaired(shop, book)

    row = await license_row(shop.rt)
    assert row["amount"] == 2
    assert row["seats"] >= 6


async def test_an_order_that_was_never_learned_is_repaired_by_receiving_it(shop):
    await shop.rt.db.write(lambda tx: give_up(tx, shop, "CS9"))
    book = Book(CS9=["NEW"])
    await night(shop, book)
    await night(shop, book)  # asked for once a night, although both the work and the finding name it
    assert book.asked == ["CS9", "CS9"]
    assert (await only(shop)).kind is FindingKind.UNKNOWN_HERE

    done = await repaired(shop, book)

    assert done.how == "repaired"
    assert await rows(shop.rt, "orders", "licenses") == [1, 1]


async def test_a_finding_outlives_the_work_that_led_to_it_and_vanishes_when_the_order_is_gone(shop):
    await shop.rt.db.write(lambda tx: give_up(tx, shop, "CS9"))
    book = Book(CS9=["NEW"])
    await night(shop, book)
    await change(shop.rt, "DELETE FROM outbox")
    del book.orders["CS9"]

    await night(shop, book)

    assert [one.how for one in await findings(shop.rt)] == ["vanished"]


async def test_a_trial_that_get_license_called_a_purchase_is_received_as_one(shop):
    await shop.sell("CS1", amount=5)
    book = Book(CS1=["TRIAL"])
    await night(shop, book)

    await repaired(shop, book)

    row = await shop.rt.db.read(lambda tx: tx.one("SELECT order_type FROM orders"))
    assert row["order_type"] == "TRIAL"


@pytest.mark.parametrize("book", [Book(), Book(CS1=["RENEW"])], ids=["unknown there", "another type"])
async def test_what_only_a_person_can_decide_is_not_repaired(shop, book):
    await shop.sell("CS1", amount=5)
    await night(shop, book)
    found = await only(shop)
    assert repair_of(found.kind, found.ours, found.theirs) is None

    with pytest.raises(NotRepairable, match="person"):
        await repaired(shop, book)


async def test_only_what_the_marketplace_says_now_is_believed(shop):
    await shop.sell("CS1", amount=5)
    book = Book(CS1=["UNSUBSCRIBE"])
    await night(shop, book)
    book.orders["CS1"] = ["NEW"]

    assert (await repaired(shop, book)).how == "vanished"
    assert (await license_row(shop.rt))["state"] == "ISSUED"


async def test_a_silent_marketplace_repairs_nothing(shop):
    await shop.sell("CS1", amount=5)
    book = Book(CS1=["UNSUBSCRIBE"])
    await night(shop, book)
    book.error = MarketplaceUnreachable("time-out")

    with pytest.raises(MarketplaceNotAsked):
        await repaired(shop, book)
    assert (await only(shop)).how is None


async def test_unknown_findings_are_not_found(shop):
    with pytest.raises(NotFound):
        await repair_finding(shop.rt, Book(), f"fnd_{'0' * 26}", "x", by="li")


async def test_of_operators_that_repair_at_once_one_does(shop):
    await shop.sell("CS1")
    book = Book(CS1=["UNSUBSCRIBE"])
    await night(shop, book)
    name = (await only(shop)).public_id

    done = await asyncio.gather(
        *(repair_finding(shop.rt, book, name, "ticket", by="li") for _ in range(4)), return_exceptions=True
    )

    assert sum(isinstance(one, NotRepairable) for one in done) == 3
    assert len(await audited(shop.rt, "license.released")) == 1


async def test_a_line_that_is_unknown_here_is_received(rt):
    shop = await open_shop(rt, seats=10)
    await shop.sell("CS1", amount=5)
    book = Book(CS1=["NEW", {}, {}])
    await night(shop, book)
    assert (await only(shop)).line_id == "CS1-000002"

    assert (await repaired(shop, book)).how == "repaired"
    assert await rows(rt, "order_lines", "licenses") == [2, 2]


def test_every_repair_is_offered_by_some_finding():
    offered = {repair_of(kind, "NEW", "TRIAL") for kind in FindingKind}

    assert offered == {*Repair, None}
