"""Use of relayed codes reaches the marketplace once for each code, day and client, whatever happens on the way."""

import asyncio

import pytest

from licensesvc.domain.instants import DAY, HOUR, MINUTE
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.client import MarketplaceClient
from licensesvc.services.relay import relay_usage
from licensesvc.services.upkeep.rotate_vault import VaultResealer
from licensesvc.signing import vault
from licensesvc.storage import relay as rows
from licensesvc.web.openapi_compat.usage import usage_calls
from tests.support_edges import change, open_shop
from tests.support_relay import QUERY, TLS, USAGE, Code

OK = "92020000"
TODAY, TOMORROW = "20261118", "20261119"
both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)


@pytest.fixture
async def alive(rig):
    """A rig with four codes in service."""
    for number in range(1, 5):
        await rig.sell(f"PL{number}", f"CS{number}")
        assert await rig.activate(f"PL{number}") == OK
    return rig


async def use(rig, usage, **options):
    """Report: names of clients, or numbers, by code; returns `data`."""
    said = [
        {"license": code, "software_usage_Info": [{"id": item} if isinstance(item, str) else {"active_num": item} for item in items]}
        for code, items in usage.items()
    ]  # fmt: skip
    answer = await rig.call(local_path(rig), {"usage_info": said}, **options)
    assert answer.json["error_code"] == OK, answer.json
    return answer.json["data"]


def local_path(rig):
    """Our own URI of the report."""
    return usage_calls(rig.rt)[0].path


async def beat(rig, code, account):
    answer = await rig.call(QUERY, {"license": code, "heartbeatInfo": {"thirdPartyAccount": account}})
    assert answer.json["error_code"] == OK


async def report(rig, *, later=MINUTE):
    """Let the outbox work after a while."""
    rig.clock.now += later
    while await rig.reporting.work_once():
        pass


async def waiting(rig):
    return (await rig.rows("SELECT COUNT(*) FROM relay_usage WHERE reported_at IS NULL AND refused_at IS NULL"))[0][0]


@both_engines
async def test_clients_are_told_once_and_forgotten(alive):
    assert await use(alive, {"PL1": ["ann", "bob"], "PL2": ["ann"]}) == {"check_fail_list": []}
    await use(alive, {"PL1": ["bob", "cid"]})
    await beat(alive, "PL3", "dan")
    await beat(alive, "PL1", "ann")
    assert USAGE not in alive.market.paths(), "nothing is told while software waits"

    await report(alive)
    await report(alive)

    assert alive.market.sent == {
        ("PL1", TODAY, "ann"): 1,
        ("PL1", TODAY, "bob"): 1,
        ("PL1", TODAY, "cid"): 1,
        ("PL2", TODAY, "ann"): 1,
        ("PL3", TODAY, "dan"): 1,
    }
    assert alive.market.paths().count(USAGE) == 1
    assert await alive.rows("SELECT COUNT(*), COUNT(client), COUNT(reported_at) FROM relay_usage") == [(5, 0, 5)]
    assert await alive.rows("SELECT activity, outcome FROM messages") == [("license/software-usage-info", "ok")]


@both_engines
async def test_ids_lie_sealed_until_they_are_told(alive):
    await use(alive, {"PL1": ["secret-device"]})

    [(client, index)] = await alive.rows("SELECT client, client_index FROM relay_usage")
    assert b"secret-device" not in bytes(client)
    assert "secret-device" not in index
    everything = await alive.rows("SELECT payload || subject FROM outbox")
    assert "secret-device" not in str(everything)


async def test_every_day_counts_anew(alive):
    await use(alive, {"PL1": ["ann"]})
    await report(alive)
    alive.clock.now += 12 * HOUR
    await use(alive, {"PL1": ["ann"]})
    await report(alive)

    assert alive.market.sent == {("PL1", TODAY, "ann"): 1, ("PL1", TOMORROW, "ann"): 1}


async def test_a_number_that_grows_is_told_again(alive):
    for number in (5, 5, 3, 8):
        await use(alive, {"PL1": [number]})
        await report(alive)

    assert alive.market.sent == {("PL1", TODAY, 5): 1, ("PL1", TODAY, 8): 1}


async def test_an_outage_of_hours_is_outlived(alive):
    await alive.market.stop()
    for hour in range(5):
        await use(alive, {"PL1": [f"client-{hour}"]})
        await report(alive, later=45 * MINUTE)
    assert await waiting(alive) == 5
    await alive.restart()
    await alive.market.start()
    await report(alive, later=45 * MINUTE)

    assert alive.market.sent == {("PL1", TODAY, f"client-{hour}"): 1 for hour in range(5)}
    assert await waiting(alive) == 0
    open_items = await alive.rows("SELECT COUNT(*) FROM outbox WHERE done_at IS NULL AND kind = 'relay-usage'")
    assert open_items == [(0,)]


async def test_what_was_told_late_is_marked_for_its_own_day_once(alive):
    """Ann used the code on two days of an outage: one report names her once, and both days are done."""
    await alive.market.stop()
    await use(alive, {"PL1": ["ann"]})
    alive.clock.now += DAY
    await use(alive, {"PL1": ["ann"]})
    await alive.market.start()
    await report(alive)

    assert alive.market.sent == {("PL1", TOMORROW, "ann"): 1}
    assert await alive.rows("SELECT COUNT(*), COUNT(reported_at) FROM relay_usage") == [(2, 2)]


@pytest.mark.parametrize("mishap", ["lost after", "lost before", "internal", "gateway", "html"])
async def test_after_an_unknown_outcome_everything_is_told_again(alive, mishap):
    """The marketplace counts distinct clients, so a repeat does no harm; our record marks each once."""
    await use(alive, {"PL1": ["ann"]})
    alive.market.mishap = mishap
    await report(alive)
    assert await waiting(alive) == 1
    assert await alive.rows("SELECT outcome FROM messages") == [("MarketplaceAway",)]
    alive.market.mishap = None
    await report(alive, later=HOUR)

    assert alive.market.sent == {("PL1", TODAY, "ann"): 2 if mishap == "lost after" else 1}
    assert await waiting(alive) == 0


async def test_a_code_that_the_marketplace_refuses_holds_no_other_back(alive):
    await use(alive, {f"PL{number}": ["ann"] for number in range(1, 5)})
    del alive.market.codes["PL2"]
    alive.market.codes["PL3"].status = None
    await report(alive)

    assert set(alive.market.sent) == {("PL1", TODAY, "ann"), ("PL4", TODAY, "ann")}
    assert await alive.rows("SELECT COUNT(reported_at), COUNT(refused_at), COUNT(client) FROM relay_usage") == [
        (2, 2, 0)
    ]


async def test_a_call_that_is_refused_whole_is_halved(alive, monkeypatch):
    def picky(fields):
        codes = [said["license"] for said in fields["usage_info"]]
        if "PL2" in codes:
            return {"error_code": "92020020", "error_msg": "no"}
        return real(fields)

    real = alive.market._usage
    monkeypatch.setattr(alive.market, "_usage", picky)
    await use(alive, {f"PL{number}": ["ann"] for number in range(1, 5)})
    await report(alive)

    assert {code for code, _, _ in alive.market.sent} == {"PL1", "PL3", "PL4"}
    assert await waiting(alive) == 0


async def test_more_than_one_call_holds_is_told_in_several(alive):
    await use(alive, {"PL1": [f"c{number}" for number in range(100)]})
    await use(alive, {"PL1": [f"d{number}" for number in range(100)], "PL2": ["ann"]})
    await use(alive, {"PL1": ["e", 7]})
    await report(alive)

    assert len(alive.market.sent) == 203
    assert set(alive.market.sent.values()) == {1}
    assert alive.market.paths().count(USAGE) == 3


async def test_use_that_is_recorded_during_a_report_is_not_forgotten(alive):
    """The report that is under way has read its rows already; another one follows."""
    await use(alive, {"PL1": ["ann"]})
    alive.market.gate = asyncio.Event()
    alive.market.arrived.clear()
    under_way = asyncio.create_task(report(alive))
    await alive.market.arrived.wait()
    await use(alive, {"PL1": ["bob"]})
    alive.market.gate.set()
    await under_way
    await report(alive)

    assert alive.market.sent == {("PL1", TODAY, "ann"): 1, ("PL1", TODAY, "bob"): 1}


@both_engines
async def test_two_processes_that_report_at_once_mark_each_use_once(alive):
    await use(alive, {"PL1": ["ann", "bob"]})
    alive.clock.now += MINUTE
    async with (
        MarketplaceClient(TLS) as one,
        MarketplaceClient(TLS) as two,
    ):  # as two processes: without a lock in common
        reporters = [relay_usage.UsageReporter(alive.rt, each) for each in (one, two)]
        await asyncio.gather(*(reporter.report(alive.shop.connection.public_id) for reporter in reporters))

    assert await alive.rows("SELECT COUNT(*), COUNT(reported_at) FROM relay_usage") == [(2, 2)]
    assert set(alive.market.sent) == {("PL1", TODAY, "ann"), ("PL1", TODAY, "bob")}


@both_engines
async def test_forty_copies_of_one_report_are_one(alive):
    await asyncio.gather(*(use(alive, {"PL1": ["ann", "bob", 9]}) for _ in range(40)))
    await report(alive)

    assert alive.market.sent == {("PL1", TODAY, who): 1 for who in ("ann", "bob", 9)}


async def test_codes_of_strangers_and_codes_that_are_not_relayed_are_left_out(alive):
    other = await open_shop(
        alive.rt, name="other", sold="OFFI200", kind=DeliveryKind.LICENSE_1_0, connection=alive.shop.connection
    )
    own = await other.sell_code("CS9")
    pair = await other.pair()
    assert await alive.activate(own, pair=pair) == OK
    alive.market.codes["PL9"] = Code("CS9")

    failed = await use(alive, {own: ["ann"], "PL1": ["ann"], "PL9": ["ann"]}, pair=pair)
    assert failed == {"check_fail_list": ["PL1", "PL9"]}
    await report(alive)
    assert alive.market.sent == {}
    assert await waiting(alive) == 0


async def test_a_day_that_has_counted_its_bound_takes_no_more(alive, monkeypatch):
    await use(alive, {"PL1": ["ann", "bob"]})
    monkeypatch.setattr(relay_usage, "MAX_CLIENTS_A_DAY", 2)
    await use(alive, {"PL1": ["cid"], "PL2": ["cid"]})
    await report(alive)

    assert set(alive.market.sent) == {("PL1", TODAY, "ann"), ("PL1", TODAY, "bob"), ("PL2", TODAY, "cid")}


async def test_sealed_ids_move_to_a_new_vault_key(alive):
    await use(alive, {"PL1": ["ann"]})
    path = alive.rt.proofs_dir.parent / "vault-keys.json"
    alive.rt.vault.follow(vault.add_key(path, alive.clock.now))

    assert await VaultResealer(alive.rt, path).work_once() >= 1
    [(sealed,)] = await alive.rows("SELECT client FROM relay_usage")
    assert bytes(sealed)[1:3] == alive.rt.vault.newest.to_bytes(2, "big")
    await report(alive)
    assert alive.market.sent == {("PL1", TODAY, "ann"): 1}


async def test_a_connection_whose_keys_are_gone_keeps_what_waits(alive):
    await use(alive, {"PL1": ["ann"]})
    await change(alive.rt, "UPDATE connections SET api_access_key = NULL")
    await report(alive)
    assert await waiting(alive) == 1

    await change(alive.rt, "UPDATE connections SET api_access_key = 'AKMARKET'")
    await report(alive, later=HOUR)
    assert alive.market.sent == {("PL1", TODAY, "ann"): 1}


async def test_what_a_given_up_report_left_is_taken_up_by_the_next_start(alive):
    await use(alive, {"PL1": ["ann"]})
    await change(alive.rt, "UPDATE outbox SET given_up_at = 1 WHERE kind = 'relay-usage'")
    await report(alive)
    assert alive.market.sent == {}

    await relay_usage.resume_reports(alive.rt)
    await report(alive)
    assert alive.market.sent == {("PL1", TODAY, "ann"): 1}


async def test_the_control_a_reporter_that_forgets_to_mark_is_caught(alive, monkeypatch):
    """The planted bug: told, but not marked. The figures that the tests above compare must show it."""

    async def forgotten(tx, told, now):
        pass

    await use(alive, {"PL1": ["ann"]})
    monkeypatch.setattr(rows, "mark_reported", forgotten)
    await report(alive)

    assert alive.market.sent["PL1", TODAY, "ann"] > 1
    assert await waiting(alive) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"usage_info": [{"license": "PL1", "software_usage_Info": [{"id": "a", "active_num": 1}]}]},
        {"usage_info": [{"license": "PL1", "software_usage_Info": [{}]}]},
        {"usage_info": [{"license": "PL1", "software_usage_Info": [{"active_num": -1}]}]},
        {"usage_info": [{"license": "PL1", "software_usage_Info": [{"id": "x" * 257}]}]},
        {"usage_info": []},
        {"usage_info": {}},
    ],
)
async def test_malformed_reports_leave_nothing(alive, said):
    answer = await alive.call(local_path(alive), said)

    assert answer.json["error_code"] in {"95000001", "92020002"}
    assert await waiting(alive) == 0
