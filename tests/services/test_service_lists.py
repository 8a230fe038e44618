"""The statements behind lists, statistics and the last use of tokens, on both engines."""

from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.calendar import QUARTER, days_until, per_day
from licensesvc.domain.instants import DAY, to_datetime
from licensesvc.domain.supervision import Node
from licensesvc.services.access.manage_tokens import CreateToken, create_token
from licensesvc.services.licenses.seats import take_seat
from licensesvc.services.upkeep.verify_audit import verify_audit
from licensesvc.storage import audit, credentials, messages, orders, statistics, supervision
from licensesvc.storage.audit import BEGINNING
from licensesvc.storage.credentials import Role
from licensesvc.storage.where import EVERYTHING, Where
from tests.support_edges import change

SHANGHAI = ZoneInfo("Asia/Shanghai")


async def test_audit_events_are_listed_by_time_behind_a_place(rt, shop, clock):
    await shop.sell("CS1")
    clock.now += DAY
    await shop.sell("CS2")
    rows = await rt.db.read(lambda tx: audit.search(tx, after=BEGINNING, limit=1_000))

    for number, row in enumerate(rows[:-1]):
        place = (row.event.at, row.chain, row.seq)
        [following] = await rt.db.read(lambda tx, place=place: audit.search(tx, after=place, limit=1))
        assert following == rows[number + 1]

    where = EVERYTHING.given("e.kind = {}", "license.issued").given("e.at >= {}", clock.now)
    assert len(await rt.db.read(lambda tx: audit.search(tx, after=BEGINNING, limit=9, where=where))) == 1


async def test_every_chain_is_verified_over_several_pages(rt, shop):
    for number in range(130):
        await shop.sell(f"CS{number}")

    [report] = await verify_audit(rt)
    assert report.broken_at is None
    assert report.events > 500

    await change(rt, "UPDATE audit_events SET subject = 'x' WHERE seq = 507")
    [report] = await verify_audit(rt)
    assert (report.broken_at, report.events) == (507, 500)


async def test_lists_are_narrowed(rt, shop):
    received = await shop.sell("CS1")
    await shop.sell("CS2")

    async def found(store, where):
        return await rt.db.read(lambda tx: store.page(tx, after=0, limit=9, where=where))

    assert len(await found(orders, EVERYTHING.given("o.order_id = {}", "CS1"))) == 1
    assert len(await found(supervision, EVERYTHING.given("c.node = {}", Node.DELIVERING))) == 2
    assert await found(messages, EVERYTHING.given("m.direction = {}", "in").given("m.outcome = {}", "x")) == []
    at_node = EVERYTHING.always("c.rejections = 0").given("c.line_ref = {}", received.line.id)
    assert len(await found(supervision, at_node)) == 1


async def test_what_happened_is_counted(rt, shop, clock):
    await take_seat(rt, await shop.sell_code("CS1"), "machine-1")
    quarter = clock.now // QUARTER

    async def count(tx):
        return (
            await statistics.licenses_activated(tx, clock.now - DAY),
            await statistics.seats_taken(tx, clock.now + 1),
            await statistics.cases_by_node(tx),
            await statistics.failing_messages(tx, 0),
            await statistics.outbox_state(tx),
        )

    activated, seats, cases, failing, outbox = await rt.db.read(count)
    assert (activated, seats, sum(cases.values()), failing) == ([(quarter, 1)], [], 1, [])
    assert (outbox.waiting, outbox.failing, outbox.given_up) == (0, 0, 0)


async def test_the_last_use_of_a_token_never_goes_back(rt, clock):
    stored, _ = await rt.db.write(lambda tx: create_token(tx, rt, CreateToken(name="t", role=Role.READER), by="cli"))
    for at, expected in ((5, 5), (4, 5), (6, 6)):
        await rt.db.write(lambda tx, at=at: credentials.store_token_use(tx, 1, at))
        found = await rt.db.read(lambda tx: credentials.token_by_prefix(tx, stored.prefix))
        assert found is not None
        assert found.last_used_at == expected


def test_conditions_number_their_markers():
    where = Where().given("a = {}", 1).given("b = {}", None).always("c IS NULL").given("d < {}", 0)

    assert (where.sql(3), where.values) == (" AND a = $3 AND c IS NULL AND d < $4", (1, 0))
    assert (EVERYTHING.sql(3), EVERYTHING.values) == ("", ())


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4_000_000_000_000), max_size=20),
    st.sampled_from(["UTC", "Asia/Kathmandu", "America/New_York"]),
)
def test_quarters_fold_into_the_days_in_which_their_instants_lie(instants: list[int], name: str):
    zone = ZoneInfo(name)
    now = max(instants, default=DAY)
    days = days_until(now, 30, zone)

    counts = per_day([(instant // QUARTER, 1) for instant in instants], days, zone)

    assert list(counts) == days
    for day, count in counts.items():
        assert count == sum(str(to_datetime(instant, zone).date()) == day for instant in instants)
