"""Who used a license on a day: distinct, bounded, by keyed hash only, whatever is repeated and whoever counts (spec §1.5)."""

import asyncio
from dataclasses import replace

import pytest

from licensesvc.domain import usage as rules
from licensesvc.domain.instants import DAY, HOUR
from licensesvc.domain.usage import day_of
from licensesvc.services.licenses import report_usage as reporting
from licensesvc.services.licenses.heartbeat import Client, Heartbeat, heartbeat
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.report_usage import Refused, Report, client_index, report_usage
from licensesvc.storage import usage
from tests.services.test_service_activation import activated
from tests.support_edges import change, open_shop, rows
from tests.support_storage import open_at


@pytest.fixture
async def code(shop):
    """A license in service."""
    code = await shop.sell_code()
    await activated(shop, code)
    return code


def report(shop, reports, *, product_id=None):
    """`reports`: by code, names of clients or a number."""
    said = {
        code_index(shop.rt, code): Report(active_num=what) if isinstance(what, int) else Report(clients=frozenset(what))
        for code, what in reports.items()
    }
    day = day_of(shop.rt.clock(), shop.connection.calendar)
    return report_usage(shop.rt, said, connection_id=shop.connection.id, product_id=product_id, day=day)


async def days(shop, license_id=1):
    found = await shop.rt.db.read(lambda tx: usage.of_license(tx, license_id, 0, 999_999))
    return [(used.clients, used.active_num) for used in found]


async def test_distinct_clients_of_a_day_are_counted_once_and_make_no_audit_event(shop, code):
    audited = await rows(shop.rt, "audit_events")
    await report(shop, {code: ["a", "b"]})
    await report(shop, {code: ["b", "c"]})
    await report(shop, {code: ["a"]})

    assert await days(shop) == [(3, None)]
    assert await rows(shop.rt, "usage_clients") == [3]
    assert await rows(shop.rt, "audit_events") == audited


async def test_a_stated_number_is_a_figure_of_its_own_and_keeps_its_peak(shop, code):
    for number in (5, 9, 7):
        await report(shop, {code: number})
    await report(shop, {code: ["a"]})

    assert await days(shop) == [(1, 9)]
    await report(shop, {code: 0})
    assert await days(shop) == [(1, 9)]


async def test_another_day_of_the_connections_calendar_counts_anew(shop, code, clock):
    await report(shop, {code: ["a", "b"]})
    clock.now = 20_780 * DAY - 8 * HOUR - 1  # one millisecond to midnight in Shanghai
    await report(shop, {code: ["a"]})
    clock.now += 1
    await report(shop, {code: ["a"]})

    found = await shop.rt.db.read(lambda tx: usage.of_license(tx, 1, 20_000, 20_780))
    assert [(used.day, used.clients) for used in found] == [(20_775, 2), (20_779, 1), (20_780, 1)]


async def test_names_are_never_stored_and_the_same_name_has_another_hash_tomorrow(shop, code, clock):
    await report(shop, {code: ["account-canary"]})
    clock.now += DAY
    await report(shop, {code: ["account-canary"]})

    kept = await shop.rt.db.read(lambda tx: tx.all("SELECT client_key FROM usage_clients ORDER BY day"))
    assert "canary" not in str([row["client_key"] for row in kept])
    assert len({row["client_key"].rpartition("-")[2] for row in kept}) == 2


async def test_a_repeat_writes_nothing(shop, code):
    await report(shop, {code: ["a", "b"]})

    def refuse(*_arguments):
        raise AssertionError("a repeat wrote")

    class Watched:
        def __init__(self, tx):
            self._tx = tx

        def __getattr__(self, name):
            return refuse if name in {"many", "run"} else getattr(self._tx, name)

    day = day_of(shop.rt.clock(), shop.connection.calendar)
    again = rules.DayUse(license_id=1, day=day, clients=frozenset({client_index(shop.rt, day, "a")}))
    await shop.rt.db.write(lambda tx: usage.add(Watched(tx), [again]))
    fresh = rules.DayUse(license_id=1, day=day, clients=frozenset({client_index(shop.rt, day, "z")}))
    with pytest.raises(AssertionError):  # the control
        await shop.rt.db.write(lambda tx: usage.add(Watched(tx), [fresh]))


async def test_codes_that_a_query_would_not_answer_are_told_and_not_counted(rt, shop, code):
    fresh = await shop.sell_code("CS2")
    abroad = await (await open_shop(rt, name="abroad")).sell_code()

    refused = await report(shop, {code: ["a"], fresh: ["a"], abroad: ["a"], "PL0": 3})

    assert refused == Refused(
        unknown=frozenset({code_index(rt, abroad), code_index(rt, "PL0")}),
        not_activated=frozenset({code_index(rt, fresh)}),
    )
    assert await rows(rt, "usage_days", "usage_clients") == [1, 1]
    assert (await report(shop, {code: ["a"]}, product_id=shop.product.id + 1)).unknown


async def test_what_a_query_answers_is_counted_whatever_its_status(shop, code):
    for state in ("expires_at = 1", "frozen_at = 1", "suspended_at = 1", "state = 'RELEASED'"):
        await change(shop.rt, f"UPDATE license_states SET {state}")  # noqa: S608
        assert await report(shop, {code: [state]}) == Refused()
    assert await days(shop) == [(4, None)]


async def test_a_large_report_is_counted_in_portions(shop, code, monkeypatch):
    monkeypatch.setattr(reporting, "PORTION", 7)
    others = [await shop.sell_code(f"CS{number}") for number in range(2, 5)]
    for other in others:
        await activated(shop, other)

    reports = {
        code: 4,
        others[0]: [f"a{n}" for n in range(14)],
        others[1]: ["b"],
        others[2]: [f"c{n}" for n in range(9)],
    }
    assert await report(shop, reports) == Refused()

    assert [await days(shop, n) for n in (1, 2, 3, 4)] == [[(0, 4)], [(14, None)], [(1, None)], [(9, None)]]


async def test_a_day_counts_no_more_clients_than_its_bound(shop, code, monkeypatch):
    monkeypatch.setattr(rules, "MAX_CLIENTS_A_DAY", 5)

    for start in range(0, 12, 3):
        await report(shop, {code: [f"a{n}" for n in range(start, start + 3)]})

    assert await days(shop) == [(5, None)]
    assert await rows(shop.rt, "usage_clients") == [5]
    await report(shop, {code: 12})
    assert await days(shop) == [(5, 12)]


async def test_an_account_told_with_a_query_is_a_client_of_the_day(shop, code):
    day = day_of(shop.rt.clock(), shop.connection.calendar)

    def beat(name):
        command = Heartbeat(
            code_index=code_index(shop.rt, code),
            connection_id=shop.connection.id,
            product_id=None,
            now=shop.rt.clock(),
            client=name and Client(index=client_index(shop.rt, day, name), day=day),
        )
        return shop.rt.db.submit(heartbeat, command)

    await asyncio.gather(*(beat(name) for name in ("a", "b", "a", None)))
    await report(shop, {code: ["b", "c"]})

    assert await days(shop) == [(3, None)]


@pytest.fixture
async def nodes(rt, shop, place, engine):
    """The shop as the processes see it that may write: two on PostgreSQL."""
    if engine == "sqlite":
        yield [shop, shop]
        return
    database = await open_at(place, chain="second")
    yield [shop, replace(shop, rt=replace(rt, db=database))]
    await database.close()


async def test_many_reports_at_once_count_each_client_once(nodes, code):
    others = [await nodes[0].sell_code(f"CS{number}") for number in range(2, 5)]
    for other in others:
        await activated(nodes[0], other)
    codes = [code, *others]

    await asyncio.gather(
        *(
            report(nodes[n % 2], {codes[(n + k) % 4]: [f"a{(n + k + j) % 20}" for j in range(5)] for k in range(3)})
            for n in range(80)
        ),
        *(report(nodes[n % 2], {code: n}) for n in range(20)),
    )

    assert [await days(nodes[0], n) for n in (1, 2, 3, 4)] == [[(20, 19)], *[[(20, None)]] * 3]
    assert await rows(nodes[0].rt, "usage_clients") == [80]


async def test_the_days_of_a_product_are_summed(shop, code):
    other = await shop.sell_code("CS2")
    await activated(shop, other)
    await report(shop, {code: ["a", "b"], other: ["a"]})
    await report(shop, {other: 7})

    found = await shop.rt.db.read(lambda tx: usage.of_product(tx, shop.product.id, 0, 999_999))

    assert [(used.licenses, used.clients, used.active_num) for used in found] == [(2, 3, 7)]
