"""Restarting kept messages: which may be, what is asked first, one effect however often, a record of each. On both engines."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from licensesvc.domain.errors import InProgress, MarketplaceNotAsked, NotFound, NotRestartable
from licensesvc.domain.license import LicenseState
from licensesvc.domain.messages import MessageState
from licensesvc.marketplace.huawei.client import MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal
from licensesvc.services.orders.notify_order import OrderQuery
from licensesvc.services.orders.query_order import query_order
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.services.restarts.restart_message import (
    AT_THE_MARKETPLACE,
    LEASE,
    SUCCEEDED_BEFORE,
    Restarter,
    RestartWish,
)
from licensesvc.signing import vault
from licensesvc.storage import messages
from licensesvc.storage.port import StorageUnavailable
from tests.services.test_service_messages import found, keep
from tests.services.test_service_orders import Marketplace
from tests.support_edges import change, rows

WISH = RestartWish(reason="ticket 4711")
GET_LICENSE = b"activity=getLicense&customerId=c&businessId=b&orderId=CS1&productId=OFFI100"
NOTIFY = b'{"activity":"orderNotify","orderId":"CS1"}'
EFFECTS = ("orders", "licenses", "license_codes", "supervision_cases")


class Silent:
    """A marketplace that answers with an error."""

    def __init__(self, error):
        self.error = error
        self.calls = 0

    async def order_query(self, *_args):
        self.calls += 1
        raise self.error


def restarter(shop, client=None, rt=None):
    return Restarter(rt or shop.rt, client or Marketplace(), lambda: None)


async def message_of(rt, public_id):
    return await rt.db.read(lambda tx: messages.by_public_id(tx, public_id))


async def audited(rt, kind):
    return [
        (row["actor"], row["subject"], msgspec.json.decode(row["detail"]))
        for row in await rt.db.read(lambda tx: tx.all("SELECT * FROM audit_events WHERE kind = $1 ORDER BY seq", kind))
    ]


async def test_a_failed_delivery_is_carried_out_again_recorded_and_audited(shop):
    failed = await keep(shop, raw=GET_LICENSE)

    done = await restarter(shop).restart(failed.public_id, WISH, by="li")

    assert (done.result, done.outcome, done.notes) == ("succeeded", "000000", (AT_THE_MARKETPLACE,))
    assert await rows(shop.rt, *EFFECTS) == [1, 1, 1, 1]
    original, record = await message_of(shop.rt, failed.public_id), await message_of(shop.rt, done.restart)
    assert (original.state, original.restarted_at) == (MessageState.RESTARTED, shop.rt.clock())
    assert (record.restart_of, record.state, record.activity) == (
        failed.public_id,
        MessageState.SUCCEEDED,
        "getLicense",
    )
    assert record.sealed_request is None
    [(actor, subject, detail)] = await audited(shop.rt, "message.restart_begun")
    assert (actor, subject, detail["reason"], detail["asked"]) == ("li", failed.public_id, "ticket 4711", 1)
    [(_, _, detail)] = await audited(shop.rt, "message.restarted")
    assert detail == {"restart": done.restart, "outcome": "000000"}


async def test_what_succeeded_before_changes_nothing_and_is_said(shop):
    failed = await keep(shop, raw=GET_LICENSE)
    first = await restarter(shop).restart(failed.public_id, WISH, by="li")
    codes = await shop.rt.db.read(lambda tx: tx.all("SELECT code_index FROM license_codes"))

    again = await restarter(shop).restart(failed.public_id, WISH, by="li")

    assert again.notes == (SUCCEEDED_BEFORE, AT_THE_MARKETPLACE)
    assert again.restart != first.restart
    assert await shop.rt.db.read(lambda tx: tx.all("SELECT code_index FROM license_codes")) == codes
    assert await rows(shop.rt, *EFFECTS) == [1, 1, 1, 1]


async def test_what_fails_again_stays_failed_and_says_why(shop):
    failed = await keep(shop, raw=GET_LICENSE.replace(b"OFFI100", b"NOBODY"))

    done = await restarter(shop).restart(failed.public_id, WISH, by="li")

    assert (done.result, done.outcome) == ("failed", "000005")
    assert "NOBODY" in done.detail
    assert (await message_of(shop.rt, failed.public_id)).state is MessageState.FAILED
    assert [event[2]["outcome"] for event in await audited(shop.rt, "message.restarted")] == ["000005"]


async def test_a_notification_queues_its_question_without_spending_a_nonce(shop):
    failed = await keep(shop, activity="orderNotify", raw=NOTIFY)
    marketplace = Marketplace()

    done = await restarter(shop, marketplace).restart(failed.public_id, WISH, by="li")
    await OutboxWorker(shop.rt, marketplace).work_once()

    assert (done.result, marketplace.calls) == ("succeeded", 2)
    assert await rows(shop.rt, "orders", "nonces") == [1, 0]


NEVER = [
    ({"authenticated_at": None}, "did not prove"),
    ({"purpose": "test", "raw": GET_LICENSE}, "test call"),
    ({"raw": None}, "was not kept"),
]


async def test_what_was_not_made_to_be_repeated_never_is(shop):
    marketplace = Silent(ZeroDivisionError())
    for changes, why in NEVER:
        message = await keep(shop, **changes)
        for wish in (WISH, RestartWish(reason="r", without_asking=True, even_if_overtaken=True)):
            with pytest.raises(NotRestartable, match=why):
                await restarter(shop, marketplace).restart(message.public_id, wish, by="li")

    assert marketplace.calls == 0
    assert await rows(shop.rt, *EFFECTS) == [0, 0, 0, 0]


async def test_a_restart_is_not_restarted_itself(shop):
    failed = await keep(shop, raw=GET_LICENSE)
    done = await restarter(shop).restart(failed.public_id, WISH, by="li")

    with pytest.raises(NotRestartable, match=failed.public_id):
        await restarter(shop).restart(done.restart, WISH, by="li")


async def test_an_unknown_message_is_not_found(shop):
    with pytest.raises(NotFound):
        await restarter(shop).restart(f"msg_{'0' * 26}", WISH, by="li")


async def test_a_message_that_a_lost_vault_key_sealed_is_refused_in_words(shop, tmp_path):
    failed = await keep(shop, raw=GET_LICENSE)
    other = replace(shop.rt, vault=vault.create(tmp_path / "other-vault.json"))

    with pytest.raises(NotRestartable, match="vault key"):
        await restarter(shop, rt=other).restart(failed.public_id, WISH, by="li")
    moved = await keep(shop, order_id="CS2", raw=GET_LICENSE)
    await change(
        shop.rt,
        "UPDATE messages SET sealed_request = (SELECT sealed_request FROM messages WHERE public_id = $1)"
        " WHERE public_id = $2",
        failed.public_id,
        moved.public_id,
    )
    with pytest.raises(NotRestartable, match="vault key"):  # sealed for another message
        await restarter(shop).restart(moved.public_id, WISH, by="li")


UNWILLING = [
    (Silent(MarketplaceUnreachable("time-out")), MarketplaceNotAsked),
    (Silent(MalformedAnswer("no JSON")), MarketplaceNotAsked),
    (Silent(MarketplaceRefusal("MKT.0999", "internal")), MarketplaceNotAsked),
    (Silent(MarketplaceRefusal("MKT.0150", "Illegal operation")), NotRestartable),
    (Silent(MarketplaceRefusal("CBC.0150", "Illegal operation")), NotRestartable),
    (Marketplace(order_type="UNSUBSCRIBE"), NotRestartable),
]


async def test_a_purchase_needs_the_marketplaces_word_or_an_operators(shop):
    for number, (answer, error) in enumerate(UNWILLING):
        content = GET_LICENSE.replace(b"CS1", b"CS%d" % number)
        failed, before = await keep(shop, order_id=f"CS{number}", raw=content), answer.calls

        with pytest.raises(error):
            await restarter(shop, answer).restart(failed.public_id, WISH, by="li")
        assert await rows(shop.rt, *EFFECTS) == [number] * 4
        assert len(await audited(shop.rt, "message.restart_begun")) == number
        assert answer.calls == before + 1

        await restarter(shop, answer).restart(failed.public_id, RestartWish(reason="r", without_asking=True), by="li")

        assert answer.calls == before + 1
        assert await rows(shop.rt, *EFFECTS) == [number + 1] * 4
        assert [event[2]["asked"] for event in await audited(shop.rt, "message.restart_begun")] == [0] * (number + 1)


async def test_without_access_to_the_open_api_nobody_is_asked(shop):
    failed = await keep(shop, raw=GET_LICENSE)
    await change(shop.rt, "UPDATE connections SET api_access_key = NULL")

    with pytest.raises(MarketplaceNotAsked, match="api_access_key"):
        await restarter(shop).restart(failed.public_id, WISH, by="li")


async def test_a_cancellation_is_a_purchase_of_nothing_and_may_be_learned(shop):
    failed = await keep(shop, activity="orderNotify", raw=NOTIFY)

    done = await restarter(shop, Marketplace(order_type="UNSUBSCRIBE")).restart(failed.public_id, WISH, by="li")

    assert done.result == "succeeded"


def status(code, value):
    return b'{"activity":"updateLicenseCodeStatus","license":"%s","status":"%s"}' % (code.encode(), value)


async def test_a_call_that_a_later_one_overtook_is_repeated_only_when_that_is_wanted(shop):
    code = await shop.sell_code()
    about = {"activity": "updateLicenseCodeStatus", "order_id": None, "named": {"license": code}}
    freeze = await keep(shop, raw=status(code, b"FREEZE"), **about)
    unfreeze = await keep(shop, "000000", raw=status(code, b"UNFREEZE"), **about)

    with pytest.raises(NotRestartable, match=unfreeze.public_id):
        await restarter(shop).restart(freeze.public_id, WISH, by="li")
    wanted = RestartWish(reason="r", even_if_overtaken=True)
    assert (await restarter(shop).restart(freeze.public_id, wanted, by="li")).result == "succeeded"
    # Its own restart overtakes nothing but what came before.
    assert (await restarter(shop).restart(freeze.public_id, wanted, by="li")).result == "succeeded"


async def test_two_operators_at_once_have_one_effect(shop):
    failed = await keep(shop, activity="orderNotify", raw=NOTIFY)
    wish = RestartWish(reason="r", without_asking=True)

    done = await asyncio.gather(
        *(restarter(shop).restart(failed.public_id, wish, by=f"operator {n}") for n in range(8)), return_exceptions=True
    )

    won = [one for one in done if not isinstance(one, Exception)]
    assert {type(one) for one in done if isinstance(one, Exception)} <= {InProgress}
    assert len(await audited(shop.rt, "message.restarted")) == len(won) == (await rows(shop.rt, "outbox"))[0]
    assert len(won) < 8


async def test_the_control_without_a_claim_every_operator_would_have_an_effect(shop, monkeypatch):
    async def always(*_args, **_options):
        return True

    monkeypatch.setattr(messages, "claim_restart", always)
    failed = await keep(shop, activity="orderNotify", raw=NOTIFY)
    wish = RestartWish(reason="r", without_asking=True)
    await asyncio.gather(*(restarter(shop).restart(failed.public_id, wish, by=f"operator {n}") for n in range(8)))

    assert await rows(shop.rt, "outbox") == [8]


class Dying:
    """A database whose process dies at its n-th transaction, before or after the commit."""

    def __init__(self, db, at, moment):
        self._db, self._at, self._moment, self._count = db, at, moment, 0

    def __getattr__(self, name):
        return getattr(self._db, name)

    async def write(self, fn):
        self._count += 1
        if self._count != self._at:
            return await self._db.write(fn)
        if self._moment == "after":
            await self._db.write(fn)
        raise Died


class Died(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("raw", [GET_LICENSE, NOTIFY], ids=["getLicense", "orderNotify"])
async def test_a_restart_that_dies_between_any_two_transactions_is_repeated_without_a_second_effect(
    shop, clock, raw, moment
):
    transactions = 0
    for at in range(1, 9):
        order = f"CS{at}"
        content = raw.replace(b"CS1", order.encode())
        failed = await keep(
            shop, activity="orderNotify" if raw is NOTIFY else "getLicense", order_id=order, raw=content
        )
        dying = replace(shop.rt, db=Dying(shop.rt.db, at, moment))
        try:
            await restarter(shop, Marketplace(order), rt=dying).restart(failed.public_id, WISH, by="li")
        except Died:
            transactions += 1
        clock.now += LEASE + 1

        await restarter(shop, Marketplace(order)).restart(failed.public_id, WISH, by="li")
        while await OutboxWorker(shop.rt, Marketplace(order)).work_once():
            pass

        assert (await message_of(shop.rt, failed.public_id)).state is MessageState.RESTARTED
        assert await rows(shop.rt, *EFFECTS) == [at, at, at, at]
    assert transactions >= 4  # it asks, begins, carries out, ends


async def test_a_restart_that_died_stands_in_the_way_no_longer_than_its_lease(shop, clock):
    failed = await keep(shop, raw=GET_LICENSE)
    dying = replace(shop.rt, db=Dying(shop.rt.db, 3, "before"))
    with pytest.raises(Died):
        await restarter(shop, rt=dying).restart(failed.public_id, WISH, by="li")

    with pytest.raises(InProgress):
        await restarter(shop).restart(failed.public_id, WISH, by="li")
    clock.now += LEASE + 1
    assert (await restarter(shop).restart(failed.public_id, WISH, by="li")).result == "succeeded"


async def test_a_call_of_ours_is_queued_again_once_and_settles_the_failed_one(shop):
    query = OrderQuery(connection=shop.connection.public_id, order_id="CS1", order_line_id=None)
    with pytest.raises(MarketplaceUnreachable):
        await query_order(shop.rt, Silent(MarketplaceUnreachable("time-out")), query)
    [failed] = await found(shop.rt, direction="out")

    done = await asyncio.gather(*(restarter(shop).restart(failed.public_id, WISH, by="li") for _ in range(4)))

    assert {one.result for one in done} == {"queued"}
    assert sorted(len(one.notes) for one in done) == [0, 1, 1, 1]
    assert await rows(shop.rt, "outbox", "orders") == [1, 0]
    await OutboxWorker(shop.rt, Marketplace()).work_once()
    assert await rows(shop.rt, "orders") == [1]
    assert (await message_of(shop.rt, failed.public_id)).state is MessageState.RESTARTED
    assert [one.restart_of for one in await found(shop.rt, direction="out")] == [None, failed.public_id]


async def test_a_restart_while_the_database_fails_is_answered_like_a_live_call(shop):
    failed = await keep(shop, raw=GET_LICENSE)

    class Failing(Dying):
        async def write(self, fn):
            self._count += 1
            if self._count == self._at:
                raise StorageUnavailable("away")
            return await self._db.write(fn)

    rt = replace(shop.rt, db=Failing(shop.rt.db, 3, ""))
    done = await restarter(shop, rt=rt).restart(failed.public_id, WISH, by="li")

    assert (done.result, done.outcome, done.detail) == ("failed", "000005", "away")


async def test_a_release_is_restarted_although_its_license_is_gone_already(shop):
    code = await shop.sell_code()
    raw = b'{"activity":"releaseLicenseCode","license":"%s"}' % code.encode()
    failed = await keep(shop, activity="releaseLicenseCode", order_id=None, raw=raw)

    for _ in range(2):
        assert (await restarter(shop).restart(failed.public_id, WISH, by="li")).result == "succeeded"

    row = await shop.rt.db.read(lambda tx: tx.one("SELECT state FROM license_states"))
    assert row["state"] == LicenseState.RELEASED
