"""Changes by hand on both engines: what they write, what marketplace and software see of them, what lists find."""

import asyncio
from itertools import product as pairs

import pytest

from licensesvc.domain.errors import (
    ActivationNotFound,
    IllegalLicenseState,
    LicenseNotFound,
    NotFound,
    SeatsInUse,
    StaleVersion,
)
from licensesvc.domain.instants import DAY, rfc3339
from licensesvc.domain.license import ExpirySource, LicenseState, LicenseStatus, status_at
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.licenses import change_license as verbs
from licensesvc.services.licenses.change_license import Target
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.licenses.seats import take_seat
from licensesvc.services.licenses.sign_license import signed_license
from licensesvc.services.licenses.validate_license import validate_license
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import activations, licenses
from licensesvc.storage.license_search import Search, count_by_status
from licensesvc.storage.orders import Buyer
from tests.support_edges import change, open_shop, rows

WHY = "ticket 4711"


async def the_license(rt, public_id):
    return await rt.db.read(lambda tx: licenses.by_public_id(tx, public_id))


async def done(rt, verb, public_id, *args, version=None, by="tok_1"):
    """One verb on the license as it stands, or as somebody saw it at `version`."""
    if version is None:
        version = (await the_license(rt, public_id)).view.version
    target = Target(license_id=public_id, version=version, by=by, reason=WHY)
    return await rt.db.write(lambda tx: verb(tx, rt, target, *args))


async def told(rt, kind):
    """Subjects, actors and details of the audit events of a kind."""
    found = await rt.db.read(
        lambda tx: tx.all("SELECT subject, actor, detail FROM audit_events WHERE kind = $1 ORDER BY seq", kind)
    )
    return [tuple(row) for row in found]


@pytest.fixture
async def sold(shop):
    received = await shop.sell("CS1", amount=2)
    return received.license.view.public_id


async def code_of(rt, public_id):
    loaded = await the_license(rt, public_id)
    return await rt.db.read(lambda tx: open_code(tx, rt, loaded))


async def test_a_suspended_license_gives_no_seat_until_it_is_reinstated(rt, sold):
    code = await code_of(rt, sold)
    await take_seat(rt, code, "machine-1")

    await done(rt, verbs.suspend, sold)

    with pytest.raises(IllegalLicenseState):
        await take_seat(rt, code, "machine-2")
    assert (await validate_license(rt, code=code, nonce="n", fingerprint=None)).validation.code == "SUSPENDED"
    await done(rt, verbs.reinstate, sold)
    assert (await take_seat(rt, code, "machine-2")).seats_taken == 2
    assert await told(rt, "license.suspended") == [(sold, "tok_1", '{"reason":"ticket 4711"}')]
    assert (await audit_database(rt)).clean


async def test_a_change_that_is_there_already_writes_nothing(rt, sold):
    await done(rt, verbs.suspend, sold)
    before = await the_license(rt, sold), await rows(rt, "audit_events")

    again = await done(rt, verbs.suspend, sold)

    assert (again, await rows(rt, "audit_events")) == before


async def test_a_revoked_license_stays_revoked(rt, sold):
    code = await code_of(rt, sold)
    await done(rt, verbs.revoke, sold)

    for verb, args in (verbs.reinstate, ()), (verbs.renew, (None,)), (verbs.change_quantity, (3,)):
        with pytest.raises(IllegalLicenseState):
            await done(rt, verb, sold, *args)
    assert (await validate_license(rt, code=code, nonce="n", fingerprint=None)).validation.code == "REVOKED"


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        (verbs.suspend, ()),
        (verbs.reinstate, ()),
        (verbs.revoke, ()),
        (verbs.renew, (None,)),
        (verbs.move_expiry, (None,)),
        (verbs.change_quantity, (3,)),
        (verbs.replace_code, ()),
        (verbs.free_seat, (None,)),
        (verbs.reset_activation, ("machine-1",)),
    ],
)
async def test_whoever_saw_an_older_version_is_refused(rt, sold, verb, args):
    version = (await the_license(rt, sold)).view.version
    await done(rt, verbs.suspend, sold)
    before = await the_license(rt, sold), await rows(rt, "audit_events")

    with pytest.raises(StaleVersion):
        await done(rt, verb, sold, *args, version=version)
    with pytest.raises(NotFound):
        await done(rt, verb, "lic_unknown", *args, version=1)

    assert (await the_license(rt, sold), await rows(rt, "audit_events")) == before


async def test_of_ten_at_once_with_one_version_one_wins(rt, sold):
    version = (await the_license(rt, sold)).view.version

    answers = await asyncio.gather(
        *(done(rt, verbs.change_quantity, sold, 10 + number, version=version) for number in range(10)),
        return_exceptions=True,
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["LoadedLicense"] + ["StaleVersion"] * 9
    assert len(await told(rt, "license.quantity_changed")) == 1


async def test_a_moved_end_goes_into_the_next_revision_and_survives_other_sources(rt, shop, clock, sold):
    first = await signed_license(rt, sold)
    at = clock.now + 7 * DAY

    moved = await done(rt, verbs.move_expiry, sold, rfc3339(at))

    assert (moved.view.expires_at, moved.view.expiry_source) == (at, ExpirySource.OPERATOR)
    assert (await signed_license(rt, sold)).revision == first.revision + 1
    await shop.sell("CS1", amount=2, order_time=clock.now - DAY, expiry_order_query=clock.now + 99 * DAY)
    await take_seat(rt, await code_of(rt, sold), "machine-1")
    assert (await the_license(rt, sold)).view.expires_at == at
    back = await done(rt, verbs.move_expiry, sold, None)
    assert back.view.expiry_source is ExpirySource.SERVICE_PERIOD


async def test_a_renewal_is_the_same_for_software_and_document(rt, clock, sold):
    code = await code_of(rt, sold)
    await take_seat(rt, code, "machine-1")
    before = await the_license(rt, sold)
    clock.now = before.view.expires_at + DAY
    assert (await validate_license(rt, code=code, nonce="n", fingerprint=None)).validation.code == "EXPIRED"

    renewed = await done(rt, verbs.renew, sold, None)

    assert renewed.view.expires_at > clock.now + 364 * DAY
    assert (await validate_license(rt, code=code, nonce="n", fingerprint=None)).validation.valid


async def test_a_changed_quantity_is_not_undone_by_the_next_source(rt, shop, clock, sold):
    changed = await done(rt, verbs.change_quantity, sold, 4)

    assert (changed.view.seats, changed.amount) == (4, 4)
    await shop.sell("CS1", amount=2, order_time=clock.now - DAY)
    after = await the_license(rt, sold)
    assert (after.view.seats, after.amount, after.view.order_time) == (4, 4, clock.now - DAY)
    assert (await audit_database(rt)).clean


async def test_seats_that_are_taken_are_never_sold_away(rt, sold):
    code = await code_of(rt, sold)
    for machine in ("machine-1", "machine-2"):
        await take_seat(rt, code, machine)

    with pytest.raises(SeatsInUse):
        await done(rt, verbs.change_quantity, sold, 1)


async def test_a_replaced_code_is_unknown_and_the_new_one_opens_the_same_license(rt, sold):
    old = await code_of(rt, sold)
    await take_seat(rt, old, "machine-1")

    replaced = await done(rt, verbs.replace_code, sold)

    new = await code_of(rt, sold)
    assert new != old
    with pytest.raises(LicenseNotFound):
        await take_seat(rt, old, "machine-1")
    assert (await validate_license(rt, code=old, nonce="n", fingerprint=None)).validation.code == "NOT_FOUND"
    seat = await take_seat(rt, new, "machine-1")
    assert (seat.license_id, seat.is_new, seat.seats_taken) == (sold, False, 1)
    assert replaced.code_hint.endswith(new[-4:])
    [(_, _, detail)] = await told(rt, "license.code_replaced")
    assert old not in detail
    assert new not in detail
    assert (await audit_database(rt)).clean


async def test_a_code_of_the_marketplace_is_not_ours_to_replace(rt, shop):
    other = await open_shop(rt, sold="OFFI200", kind=DeliveryKind.LICENSE_2_0, connection=shop.connection)
    received = await other.sell("CS2", code="PL-0123456789")

    with pytest.raises(IllegalLicenseState, match="marketplace"):
        await done(rt, verbs.replace_code, received.license.view.public_id)


async def test_a_seat_is_freed_by_activation_by_fingerprint_or_the_oldest_first(rt, clock, sold):
    await done(rt, verbs.change_quantity, sold, 3)
    code = await code_of(rt, sold)
    seats = []
    for machine in ("machine-1", "machine-2", "machine-3"):
        clock.now += 1
        seats.append(await take_seat(rt, code, machine))

    await done(rt, verbs.free_seat, sold, None)
    await done(rt, verbs.free_seat, sold, seats[1].activation_id)
    left = await done(rt, verbs.reset_activation, sold, "machine-3")

    assert left.view.seats_taken == 0
    freed = [detail for _, _, detail in await told(rt, "seat.freed")]
    assert [seat.activation_id in detail for seat, detail in zip(seats, freed, strict=True)] == [True] * 3
    assert "machine-3" not in "".join(freed)
    assert (await audit_database(rt)).clean


async def test_a_seat_of_another_license_is_not_freed(rt, shop, sold):
    other = await shop.sell("CS2")
    seat = await take_seat(rt, await code_of(rt, other.license.view.public_id), "machine-1")

    for verb, argument in (
        (verbs.free_seat, seat.activation_id),
        (verbs.free_seat, "act_unknown"),
        (verbs.free_seat, None),
        (verbs.reset_activation, "machine-1"),
    ):
        with pytest.raises(ActivationNotFound):
            await done(rt, verb, sold, argument)

    assert len(await rt.db.read(lambda tx: activations.of_license(tx, other.license.view.id, after=0, limit=9))) == 1


async def test_a_seat_freed_twice_is_freed_once(rt, sold):
    seat = await take_seat(rt, await code_of(rt, sold), "machine-1")
    await done(rt, verbs.free_seat, sold, seat.activation_id)

    again = await done(rt, verbs.free_seat, sold, seat.activation_id)

    assert again.view.seats_taken == 0
    assert len(await told(rt, "seat.freed")) == 1


async def test_lists_and_counts_agree_with_the_domain_about_every_status(rt, shop, clock):
    """One license for each combination of what a status follows from."""
    for number, (state, suspended, frozen, ends, source, settled) in enumerate(
        pairs(LicenseState, (None, 5), (None, 5), (None, clock.now, clock.now + 1), ("ESTIMATE", "REFRESH"), (None, 5))
    ):
        loaded = (await shop.sell(f"CS{number}")).license
        await change(
            rt,
            "UPDATE license_states SET state = $2, activated_at = $3, suspended_at = $4, frozen_at = $5, expires_at = $6,"
            " expiry_source = $7, settled_at = $8 WHERE license_id = $1",
            *(loaded.view.id, state.value, 5, suspended, frozen, ends, source, settled),
        )

    everything = await rt.db.read(lambda tx: licenses.page(tx, after=0, limit=1_000))
    counts = await rt.db.read(lambda tx: count_by_status(tx, clock.now))
    for status in LicenseStatus:
        where = Search(status=status).where(clock.now)
        found = await rt.db.read(lambda tx, where=where: licenses.page(tx, after=0, limit=1_000, where=where))
        expected = [loaded.view.id for loaded in everything if status_at(loaded.view, clock.now) is status]
        assert [loaded.view.id for loaded in found] == expected
        assert counts[status] == len(expected) > 0


async def test_a_license_is_found_by_everything_that_people_know_of_it(rt, shop, sold):
    other = await open_shop(rt, name="eu", sold="OFFI200")
    await other.sell("CS9")
    facts = OrderFacts(order_id="CS7", order_type=OrderType.NEW, marketplace_product_id="OFFI100")
    bought = await rt.db.write(
        lambda tx: receive_line(
            tx, rt, shop.connection, facts, buyer=Buyer(customer_id="cust-7"), source="test", by="test"
        )
    )
    license_id = bought.license.view.public_id
    buyer = await rt.db.read(lambda tx: tx.one("SELECT public_id FROM buyers"))
    index = rt.vault.index("license-code", await code_of(rt, license_id))

    for search, expected in (
        (Search(code_index=index), [license_id]),
        (Search(code_index="unknown"), []),
        (Search(order_id="CS7"), [license_id]),
        (Search(buyer=buyer["public_id"]), [license_id]),
        (Search(customer_id="cust-7"), [license_id]),
        (Search(customer_id="cust-8"), []),
        (Search(product=shop.product.public_id), [sold, license_id]),
        (Search(connection=shop.connection.public_id, order_id="CS1"), [sold]),
        (Search(connection=other.connection.public_id, order_id="CS1"), []),
        (Search(state=LicenseState.ISSUED, customer_id="cust-7", code_index=index), [license_id]),
        (Search(state=LicenseState.ACTIVE), []),
    ):
        where = search.where(0)
        found = await rt.db.read(lambda tx, where=where: licenses.page(tx, after=0, limit=9, where=where))
        assert [loaded.view.public_id for loaded in found] == expected, search
