"""Interface messages as rows: their states, how they are found, what is kept of a call of ours. On both engines."""

import json

import pytest

from licensesvc.domain.instants import HOUR
from licensesvc.domain.messages import MessageState
from licensesvc.services.interface_messages import Callback, OutboundCall, Redo, keep_callback
from licensesvc.storage import messages
from licensesvc.storage.message_search import MessageSearch
from licensesvc.storage.messages import NEWEST_FIRST, STATES
from licensesvc.storage.where import EVERYTHING
from tests.support_edges import rows

CODE = "PLCANARY0001"


async def keep(shop, outcome="000005", named=None, **changes):
    """Keep a callback whose request has the fields `named`; return its message."""
    fields = {
        "connection_id": shop.connection.id,
        "activity": "getLicense",
        "order_id": "CS1",
        "authenticated_at": shop.rt.clock(),
        "received_at": shop.rt.clock(),
        "request": "{}",
        "response": "{}",
        "outcome": outcome,
        "detail": None,
        "address": None,
        "raw": b"{}",
        **changes,
    }
    await keep_callback(shop.rt, Callback(**fields), named or {})
    return (await found(shop.rt, newest_first=True))[0]


async def found(rt, *, newest_first=False, **search):
    where = MessageSearch(**search).where()
    after = NEWEST_FIRST if newest_first else 0
    return await rt.db.read(
        lambda tx: messages.page(tx, after=after, limit=100, where=where, newest_first=newest_first)
    )


async def every_state(shop):
    """One message in each state; ids by state."""
    rt = shop.rt
    made = {
        MessageState.SUCCEEDED: await keep(shop, "000000", order_id="CS2"),
        MessageState.FAILED: await keep(shop, order_id="CS3"),
        MessageState.IN_PROGRESS: await keep(shop, "000004", order_id="CS4"),
        MessageState.RETRIED: await keep(shop, order_id="CS2", activity="x"),
        MessageState.RESTARTED: await keep(shop, order_id="CS5"),
        MessageState.UNPROVEN: await keep(shop, "000001", order_id="CS3", authenticated_at=None),
    }
    await keep(shop, "000000", order_id="CS2", activity="x")
    restarted = made[MessageState.RESTARTED].public_id
    await rt.db.write(lambda tx: messages.mark_restarted(tx, restarted, rt.clock()))
    return {state: message.public_id for state, message in made.items()}


async def test_each_message_stands_in_exactly_one_state(shop):
    made = await every_state(shop)

    for state, public_id in made.items():
        message = await shop.rt.db.read(lambda tx, name=public_id: messages.by_public_id(tx, name))
        assert message.state is state
        holding = [
            one for one in MessageState if public_id in {kept.public_id for kept in await found(shop.rt, states=(one,))}
        ]
        assert holding == [state]
    assert set(STATES) == set(MessageState)


async def test_several_states_are_asked_for_at_once(shop):
    made = await every_state(shop)

    undone = await found(shop.rt, states=(MessageState.FAILED, MessageState.IN_PROGRESS))

    assert {message.public_id for message in undone} == {made[MessageState.FAILED], made[MessageState.IN_PROGRESS]}


async def test_what_succeeds_later_settles_only_the_same_call_about_the_same_order(shop):
    for number, changes in enumerate([{"order_id": None}, {"activity": "orderNotify"}, {"purpose": "test"}]):
        about = {"order_id": f"CS{number}", **({"order_id": None} if "order_id" in changes else {})}
        failed = await keep(shop, **about)
        await keep(shop, "000000", **{**about, **changes})

        kept = await shop.rt.db.read(lambda tx, name=failed.public_id: messages.by_public_id(tx, name))
        assert kept.state is MessageState.FAILED, changes


async def test_messages_are_listed_from_either_end(shop, clock):
    made = []
    for number in range(5):
        made.append((await keep(shop, order_id=f"CS{number}")).public_id)
        clock.now += HOUR

    assert [message.public_id for message in await found(shop.rt)] == made
    assert [message.public_id for message in await found(shop.rt, newest_first=True)] == made[::-1]
    middle = (await found(shop.rt))[2].id
    older = await shop.rt.db.read(lambda tx: messages.page(tx, after=middle, limit=9, newest_first=True))
    assert [message.public_id for message in older] == made[1::-1]
    within = await found(shop.rt, since=clock.now - 4 * HOUR, until=clock.now - 2 * HOUR)
    assert [message.public_id for message in within] == made[1:3]


CONDITIONS = [
    ({"activity": "getLicense"}, 2),
    ({"activity": "x"}, 0),
    ({"order_id": "CS1"}, 1),
    ({"purpose": "test"}, 1),
    ({"purpose": "live"}, 1),
    ({"outcome": "000005"}, 2),
    ({"direction": "out"}, 0),
    ({"restart_of": "msg_x"}, 0),
    ({"connection": "con_x"}, 0),
]


async def test_each_condition_narrows(shop):
    await keep(shop)
    await keep(shop, order_id="CS2", purpose="test")

    for search, count in CONDITIONS:
        assert len(await found(shop.rt, **search)) == count, search


@pytest.mark.parametrize("name", ["license", "instanceId"])
async def test_messages_are_found_by_the_license_that_they_name(shop, name):
    code = await shop.sell_code("CS1", instance_id="inst-1")
    await shop.sell("CS2")
    [license_id] = [
        row["public_id"]
        for row in await shop.rt.db.read(lambda tx: tx.all("SELECT public_id FROM licenses WHERE order_id = 'CS1'"))
    ]
    named = await keep(shop, order_id=None, named={name: {"license": code, "instanceId": "inst-1"}[name]})
    bought = await keep(shop, order_id="CS1")
    await keep(shop, order_id="CS2")
    await keep(shop, order_id=None, named={"license": "unknown"})

    about = await found(shop.rt, license=license_id)

    assert {message.public_id for message in about} == {named.public_id, bought.public_id}


ODD = [{"license": 7}, {"license": "x" * 5_000}, {"license": "\0"}, {"instanceId": ["i"]}, {}]


async def test_whatever_a_proven_sender_names_is_kept(shop):
    for named in ODD:
        kept = await keep(shop, named=named)

        assert (kept.license_id, kept.order_id) == (None, "CS1"), str(named)[:20]


async def test_a_stranger_names_no_license(shop):
    code = await shop.sell_code()

    kept = await keep(shop, authenticated_at=None, raw=None, named={"license": code})

    assert kept.license_id is None


async def test_a_license_of_another_connection_is_not_named(shop, rt):
    from tests.support_edges import open_shop

    code = await shop.sell_code()
    other = await open_shop(rt, name="other", sold="OFFI200")

    kept = await keep(other, order_id=None, named={"license": code})

    assert kept.license_id is None


async def test_a_call_of_ours_is_kept_masked_whether_it_succeeds_or_fails(shop):
    redo = Redo(kind="relay", subject="x", payload=CODE)
    asked = {"license": CODE, "list": [{"authToken": "t"}], "orderId": "CS1"}
    async with OutboundCall(
        shop.rt, shop.connection, activity="license/activate", order_id="CS1", request=asked, redo=redo
    ) as call:
        call.answered({"error_code": "92020000", "license": CODE})
    with pytest.raises(ZeroDivisionError):
        async with OutboundCall(shop.rt, shop.connection, activity="license/activate", request=asked):
            raise ZeroDivisionError("x" * 5_000)

    succeeded, failed = await found(shop.rt, direction="out")

    assert (succeeded.state, succeeded.outcome) == (MessageState.SUCCEEDED, "ok")
    assert json.loads(succeeded.request) == {"license": "***", "list": [{"authToken": "***"}], "orderId": "CS1"}
    assert json.loads(succeeded.response) == {"error_code": "92020000", "license": "***"}
    assert (failed.state, failed.outcome, len(failed.detail)) == (MessageState.FAILED, "ZeroDivisionError", 500)
    assert failed.sealed_request is None
    everything = await shop.rt.db.read(lambda tx: tx.all("SELECT * FROM messages"))
    assert CODE not in repr([tuple(row) for row in everything])
    assert await rows(shop.rt, "messages") == [2]


INDEXES = [
    ({"states": (MessageState.FAILED,)}, "messages_not_succeeded"),
    ({"states": (MessageState.FAILED, MessageState.IN_PROGRESS)}, "messages_not_succeeded"),
    ({"order_id": "CS1"}, "messages_by_order"),
    ({"license": "lic_1"}, "sqlite_autoindex_licenses_1"),
]


async def test_what_operators_look_for_is_found_by_an_index(shop):
    if shop.rt.db.engine == "postgres":
        pytest.skip("its planner decides by the number of rows")
    for search, index in INDEXES:
        where = MessageSearch(**search).where()
        sql = f"EXPLAIN QUERY PLAN SELECT m.id FROM messages m WHERE m.id > $1{where.sql(3)} ORDER BY m.id LIMIT $2"  # noqa: S608
        plan = await shop.rt.db.read(lambda tx, sql=sql, where=where: tx.all(sql, 0, 9, *where.values))

        assert index in " ".join(row["detail"] for row in plan), search


async def test_no_condition_is_every_message():
    assert MessageSearch().where() == EVERYTHING
