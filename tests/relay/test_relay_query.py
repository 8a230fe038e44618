"""Queries through the relay: one a day for each code, and our signed last known good whenever the marketplace is not asked."""

import asyncio
from datetime import UTC

import msgspec
import pytest

from licensesvc.domain.instants import DAY, HOUR, MINUTE, format_stamp
from licensesvc.domain.relay import ASK_AGAIN
from licensesvc.services.relay.relay import AWAY_FOR
from licensesvc.signing import envelope
from licensesvc.signing.keyset import compromise, load
from tests.support_edges import change
from tests.support_relay import ACTIVATE, EXPIRES, QUERY, QUERY_ALL, Code

OK, AWAY, ILLEGAL, UNKNOWN, NOT_ACTIVATED = "92020000", "92020001", "92020003", "92020005", "92020011"
both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)


def read(rig, receipt):
    """The claims of a receipt, as the software checks it with the published keys."""
    return envelope.verify(
        receipt,
        typ=envelope.RELAY_TYP,
        keys=rig.rt.signer.keyset.verification_keys(),
        now=rig.clock.now,
        issuer="https://licenses.example",
    )


async def activated(rig, code="PL1", order="CS1"):
    await rig.sell(code, order)
    assert await rig.activate(code) == OK
    rig.market.calls.clear()


@both_engines
async def test_the_first_use_of_a_day_is_relayed_and_the_others_get_the_signed_last_known_good(rig):
    await activated(rig)
    first = await rig.query()
    rig.clock.now += HOUR
    second = await rig.query()

    facts = {
        "license_code": "PL1",
        "status": "ALIVE",
        "activate_time": "20261118110640",
        "expire_time": EXPIRES,
        "product_id": "OFFI100",
        "order_id": "CS1",
        "amount": 2,
    }
    assert first == facts
    assert {**second, "receipt": None} == {**facts, "receipt": None}
    assert rig.market.paths() == [QUERY]
    claims = read(rig, second["receipt"])
    [(license_id,)] = await rig.rows("SELECT public_id FROM licenses")
    assert (claims["sub"], claims["status"], claims["expire_time"]) == (license_id, "ALIVE", EXPIRES)
    assert claims["exp"] - claims["iat"] == 7 * DAY // 1000
    assert "PL1" not in msgspec.json.encode(claims).decode()

    rig.clock.now += 11 * HOUR  # past midnight in Shanghai
    assert "receipt" not in await rig.query()
    assert rig.market.paths() == [QUERY, QUERY]


@both_engines
async def test_while_the_marketplace_is_away_the_last_known_good_stands_until_its_end(rig):
    await activated(rig)
    await rig.query()
    await rig.market.stop()
    for days in (1, 3, 6):
        rig.clock.now += days * DAY
        if days < 6:
            assert (await rig.query())["receipt"]
    assert await rig.code(QUERY, "PL1") == AWAY, "ten days after the last answer"

    await rig.market.start()
    assert "receipt" not in await rig.query()


async def test_an_activated_code_outlives_an_outage_that_begins_before_its_first_query(rig):
    await activated(rig)
    await rig.market.stop()

    told = await rig.query()
    assert (told["status"], told["expire_time"]) == ("ALIVE", EXPIRES)
    assert read(rig, told["receipt"])["day"] is None, "an estimate, no answer to a query"

    await rig.market.start()
    rig.clock.now += AWAY_FOR
    assert "receipt" not in await rig.query(), "so the first query of the day is still relayed"


async def test_an_end_that_comes_during_an_outage_needs_nobody_to_tell_it(rig):
    await activated(rig)
    rig.market.codes["PL1"].expire_time = format_stamp(rig.clock.now + 2 * DAY, UTC)
    await rig.query()
    await rig.market.stop()

    rig.clock.now += 2 * DAY - 1000
    assert (await rig.query())["status"] == "ALIVE"
    rig.clock.now += 1000
    assert (await rig.query())["status"] == "EXPIRED"


@pytest.mark.parametrize("status", ["EXPIRED", "RELEASED", "FROZEN"])
async def test_a_code_that_is_not_usable_is_asked_for_again_after_ten_minutes(rig, status):
    await activated(rig)
    rig.market.codes["PL1"].status = status
    known = "RELEASED" if status == "RELEASED" else "EXPIRED"

    assert [(await rig.query())["status"] for _ in range(3)] == [known] * 3
    assert rig.market.paths() == [QUERY]
    rig.market.codes["PL1"].status = "ALIVE"
    rig.clock.now += ASK_AGAIN
    assert (await rig.query())["status"] == "ALIVE"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE relay_answers SET document = replace(document, '.', 'A.')",
        "UPDATE relay_answers SET document = 'garbage'",
        "UPDATE relay_answers SET document = (SELECT MAX(o.document) FROM relay_answers o WHERE o.license_id <> relay_answers.license_id)",
    ],
)  # fmt: skip
async def test_a_document_that_we_did_not_sign_for_this_license_is_never_used(rig, damage):
    await activated(rig)
    await activated(rig, "PL2", "CS2")
    await rig.query()
    await rig.rt.db.write(lambda tx: tx.run(damage))
    await rig.market.stop()

    assert await rig.code(QUERY, "PL1") == AWAY


async def test_a_document_signed_with_a_compromised_key_is_never_used(rig):
    await activated(rig)
    await rig.query()
    path = rig.rt.proofs_dir.parent / "signing-keys.json"
    compromise(path, rig.rt.signer.kid, rig.clock.now)
    rig.rt.signer.keyset = load(path)
    await rig.market.stop()

    assert await rig.code(QUERY, "PL1") == AWAY


async def test_a_code_that_the_marketplace_no_longer_knows_has_no_last_known_good(rig):
    await activated(rig)
    await rig.query()
    del rig.market.codes["PL1"]
    rig.clock.now += DAY

    assert await rig.code(QUERY, "PL1") == UNKNOWN
    await rig.market.stop()
    rig.clock.now += AWAY_FOR
    assert await rig.code(QUERY, "PL1") == AWAY


@pytest.mark.parametrize("mishap", ["gateway", "internal", "html", "lost before", "lost after"])
async def test_every_trouble_is_answered_by_the_last_known_good(rig, mishap):
    await activated(rig)
    await rig.query()
    rig.clock.now += DAY
    rig.market.mishap = mishap

    assert (await rig.query())["receipt"]


async def test_an_outage_is_noticed_once_not_by_every_program(rig):
    for number in range(6):
        await activated(rig, f"PL{number}", f"CS{number}")
    rig.clock.now += DAY
    rig.market.mishap = "lost before"
    for number in range(6):
        assert (await rig.query(f"PL{number}"))["receipt"]
    assert rig.market.paths() == [QUERY], "the others did not wait for a failure of their own"

    rig.market.mishap = None
    rig.clock.now += AWAY_FOR
    assert "receipt" not in await rig.query("PL5")


async def test_a_code_that_is_not_activated_is_told_so_and_not_asked_for_again_for_a_minute(rig):
    await rig.sell()
    assert [await rig.code(QUERY, "PL1") for _ in range(3)] == [NOT_ACTIVATED] * 3
    assert rig.market.paths() == [QUERY]

    assert await rig.activate() == OK
    assert (await rig.query())["status"] == "ALIVE", "activation through us is known at once"


async def test_a_code_that_somebody_else_activated_enters_service_here_too(rig):
    await rig.sell()
    rig.market.codes["PL1"].status = "ALIVE"

    assert (await rig.query())["status"] == "ALIVE"
    assert await rig.rows("SELECT state FROM license_states") == [("ACTIVE",)]
    assert await rig.activate() == ILLEGAL


@both_engines
async def test_an_unknown_code_in_service_is_learned_by_its_query(rig):
    rig.market.codes["PL9"] = Code("CS9", status="ALIVE")

    assert (await rig.query("PL9"))["order_id"] == "CS9"
    assert await rig.rows("SELECT order_id, source FROM orders") == [("CS9", "relay")]
    await rig.market.stop()
    assert (await rig.query("PL9"))["receipt"]


@pytest.mark.parametrize(("product", "told"), [("OFFI100", "EXPIRED"), ("OFFI999", None)])
async def test_an_unknown_code_that_is_over_leaves_no_row(rig, product, told):
    rig.market.codes["PL9"] = Code("CS9", status="EXPIRED", product_id=product)

    answer = await rig.call(QUERY, {"license": "PL9"})

    assert (answer.json["data"]["status"] if told else answer.json["error_code"]) == (told or UNKNOWN)
    assert await rig.rows("SELECT COUNT(*) FROM orders") == [(0,)]


@pytest.mark.parametrize(("column", "status"), [("suspended_at", "EXPIRED"), ("frozen_at", "EXPIRED")])
async def test_our_own_no_is_stronger_than_the_marketplaces_yes(rig, column, status):
    await activated(rig)
    await change(rig.rt, f"UPDATE license_states SET {column} = 1")  # noqa: S608

    assert (await rig.query())["status"] == status
    assert rig.market.calls == []


async def test_forty_programs_share_one_query(rig):
    await activated(rig)
    rig.market.gate = asyncio.Event()
    rig.market.arrived.clear()
    calls = [asyncio.create_task(rig.query()) for _ in range(40)]
    await rig.market.arrived.wait()
    rig.market.gate.set()

    assert {told["status"] for told in await asyncio.gather(*calls)} == {"ALIVE"}
    assert rig.market.paths() == [QUERY]


async def test_no_writer_waits_while_the_marketplace_thinks(rig):
    await activated(rig)
    rig.market.gate = asyncio.Event()
    rig.market.arrived.clear()
    slow = asyncio.create_task(rig.query())
    await rig.market.arrived.wait()

    async with asyncio.timeout(5):
        await change(rig.rt, "UPDATE connections SET name = 'still writing'")
    assert not slow.done()
    rig.market.gate.set()
    assert (await slow)["status"] == "ALIVE"


@pytest.mark.parametrize("mode", ["single", "batch"])
async def test_a_list_is_answered_from_the_day_and_the_marketplace(rig, mode):
    for number in range(4):
        await activated(rig, f"PL{number}", f"CS{number}")
    await rig.query("PL0")
    rig.market.calls.clear()

    told = (await rig.call(QUERY_ALL, {"license_list": [f"PL{number}" for number in range(4)]})).json["data"]

    assert [(info["license_code"], info["status"], "receipt" in info) for info in told] == [
        ("PL0", "ALIVE", True),
        *((f"PL{number}", "ALIVE", False) for number in (1, 2, 3)),
    ]
    assert rig.market.paths() == ([QUERY] * 3 if mode == "single" else [QUERY_ALL])


async def test_a_list_with_a_bad_code_is_refused_whole(rig):
    await activated(rig)

    answer = await rig.call(QUERY_ALL, {"license_list": ["PL1", "PL-unknown"]})
    assert answer.json["error_code"] == "92020020"
    await rig.market.stop()
    rig.clock.now += MINUTE
    answer = await rig.call(QUERY_ALL, {"license_list": ["PL1", "PL-other"]})
    assert answer.json["error_code"] == AWAY


async def test_the_same_server_serves_connections_that_do_not_relay(rig):
    await activated(rig)
    await change(rig.rt, "UPDATE connections SET relay = 'off'")
    rig.clock.now += DAY

    assert "receipt" not in await rig.query()
    assert ACTIVATE not in rig.market.paths()
    assert rig.market.calls == []
