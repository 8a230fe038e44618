"""Calls that fail: the documented schedules, what ends them, mails, restarts by hand, and what the marketplace does when it gives up."""

from collections import Counter

import msgspec
import pytest

from licensesvc.domain.instants import HOUR, MINUTE
from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.sandbox import messages
from licensesvc.sandbox.mails import MailServer
from licensesvc.sandbox.messages import SCHEDULES, Errand, Messages
from licensesvc.sandbox.orders import V1_ACTIVITIES, Activity, NewOrder, place
from tests.sandbox.conftest import eventually
from tests.sandbox.test_sandbox_changes import buy, changed
from tests.support_mail import Inbox, serving

REFUSAL = {"body": callbacks.result(CallbackCode.INTERNAL_ERROR)}
IN_PROGRESS = {"body": callbacks.result(CallbackCode.IN_PROGRESS)}
ONCE = sorted(V1_ACTIVITIES - {Activity.GET_LICENSE})
FIELDS = {
    Activity.REFRESH_LICENSE: "renew",
    Activity.EXPIRE_LICENSE: "expire",
    Activity.RELEASE_LICENSE: "release",
}


@pytest.mark.parametrize(
    ("activities", "times", "every"),
    [
        (["refreshLicenseCode", "updateLicenseCodeStatus", "releaseLicenseCode", "newInstance"], 60, 2 * MINUTE),
        (["getLicense"], 3, HOUR),
        (["refreshLicense", "expireLicense", "releaseLicense"], 0, 0),
        (["orderNotify"], 60, 3 * MINUTE),
    ],
)
def test_the_schedules_are_the_documented_ones(activities, times, every):
    for activity in activities:
        assert SCHEDULES[activity] == (times, every)


def test_every_call_has_a_schedule():
    assert SCHEDULES.keys() == set(Activity)


async def shown(sandbox, order):
    return (await sandbox.http.get(f"/sandbox/orders/{order['order_id']}")).json()


async def listed(sandbox, activity):
    known = (await sandbox.http.get("/sandbox/messages")).json()
    return [message for message in known if message["activity"] == activity]


async def mails(sandbox):
    return (await sandbox.http.get("/sandbox/mails")).json()


async def test_a_call_that_fails_is_made_61_times_with_a_mail_each(paired, seller):
    order = await buy(paired, "LICENSE_2_0")
    seller.script = [REFUSAL] * 99

    await changed(paired, order, "freeze")
    [message] = await eventually(
        lambda: listed(paired, "updateLicenseCodeStatus"), lambda found: found[0]["state"] == "failed"
    )

    assert Counter(made["ok"] for made in (await shown(paired, order))["deliveries"]) == {False: 61}
    assert (message["attempts"], message["order_id"]) == (61, order["order_id"])
    sent = await mails(paired)
    assert [mail["attempt"] for mail in sent] == list(range(1, 62))
    assert "还将重试 60 次" in sent[0]["text"]
    assert "卖家中心 > 生产接口消息" in sent[-1]["text"]
    assert order["license"] not in msgspec.json.encode(sent).decode()


@pytest.mark.parametrize("fault", [REFUSAL, IN_PROGRESS])
async def test_only_000000_ends_it_and_nobody_is_mailed_about_what_is_in_progress(paired, seller, fault):
    order = await buy(paired, "LICENSE_2_0")
    seller.script = [fault] * 3

    await changed(paired, order, "freeze")
    [message] = await eventually(
        lambda: listed(paired, "updateLicenseCodeStatus"), lambda found: found[0]["state"] == "delivered"
    )

    made = (await shown(paired, order))["deliveries"]
    assert [one["ok"] for one in made] == [False] * 3 + [True]
    assert [one["in_progress"] for one in made] == [fault is IN_PROGRESS] * 3 + [False]
    assert len(await mails(paired)) == (0 if fault is IN_PROGRESS else 3)
    assert message["attempts"] == 4


@pytest.mark.parametrize("activity", ONCE)
async def test_license_1_0_is_told_once_and_restarted_by_hand(paired, seller, activity):
    order = await buy(paired, "LICENSE_1_0")
    seller.script = [REFUSAL]
    await changed(paired, order, FIELDS[activity])
    [failed] = await listed(paired, activity)

    again = await paired.http.post(f"/sandbox/messages/{failed['number']}/restart")

    [done] = await listed(paired, activity)
    assert (failed["state"], failed["attempts"], done["state"]) == ("failed", 1, "delivered")
    assert [made["ok"] for made in again.json()] == [True]
    first, second = seller.queries[-2:]
    assert first != second
    assert [query.split("timeStamp")[0] for query in (first, second)].count(first.split("timeStamp")[0]) == 2
    assert done["number"] == failed["number"]


async def test_a_message_that_there_is_none_of_is_404(paired):
    assert (await paired.http.post("/sandbox/messages/77/restart")).status_code == 404
    assert (await paired.http.post("/sandbox/messages/x/restart")).status_code == 404


async def test_a_newer_status_ends_the_tries_of_the_older_one(run_sandbox, seller):
    async with run_sandbox(time_factor=1.0) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        order = await buy(sandbox, "LICENSE_2_0")
        seller.script = [REFUSAL]
        await changed(sandbox, order, "freeze")
        await changed(sandbox, order, "unfreeze")

        [message] = await listed(sandbox, "updateLicenseCodeStatus")

    assert (message["state"], message["attempts"]) == ("delivered", 1)
    assert [call.status for call in seller.calls] == ["FREEZE", "UNFREEZE"]


async def test_get_license_stays_with_the_seller_and_a_purchase_is_refunded_by_itself(paired, seller, state, until):
    seller.script = [REFUSAL] * 4
    asked = await buy(paired, "LICENSE_1_0")
    await until(lambda: state.orders[asked["order_id"]].stage == "商家实施交付License")
    taken = await buy(paired, "LICENSE_1_0")
    assert state.orders[taken["order_id"]].stage == "用户确认验收"

    seller.script = [REFUSAL] * 61
    online = await buy(paired, "ONLINE_LICENSE")
    await until(lambda: state.orders[online["order_id"]].stage == "已退款")
    refund = state.orders[state.orders[online["order_id"]].refunded_by]
    assert (refund.order_type, refund.of) == ("UNSUBSCRIBE", online["order_id"])
    assert state.orders[online["order_id"]].order_type == "NEW"


async def test_a_restart_after_the_end_delivers(paired, seller, state, until):
    seller.script = [REFUSAL] * 4
    order = await buy(paired, "LICENSE_1_0")
    await until(lambda: state.orders[order["order_id"]].stage == "商家实施交付License")
    [message] = await listed(paired, "getLicense")

    await paired.http.post(f"/sandbox/messages/{message['number']}/restart")

    assert state.orders[order["order_id"]].stage == "用户确认验收"
    assert state.orders[order["order_id"]].license


def test_messages_are_bounded_and_keep_their_numbers(monkeypatch):
    monkeypatch.setattr(messages, "MAX_MESSAGES", 2)
    known = Messages()
    errands = [
        Errand(order=place(NewOrder(product_id="O", dialect="GENERAL"), 0), activity=Activity.ORDER_NOTIFY)
        for _ in range(3)
    ]
    for errand in errands:
        known.open(errand, 0)
    known.open(errands[1], 1)
    known.note(errands[0], attempt=1, ok=True, verdict="forgotten")

    assert [message.number for message in known.all] == [3, 2]
    assert known.errand(1) is None
    assert known.errand(2) is errands[1]


async def test_mails_are_sent_where_a_server_was_named(run_sandbox, seller, until):
    inbox = Inbox()
    async with serving(inbox) as port:
        server = MailServer(host="localhost", port=port, to="seller@example.com")
        async with run_sandbox(mail_server=server) as sandbox:
            await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
            seller.script = [REFUSAL] * 2
            await buy(sandbox, "LICENSE_1_0", product_id="OFFI\n1")
            await until(lambda: len(inbox.mails) == 2)
    envelope, mail = inbox.mails[0]
    assert envelope.rcpt_tos == ["seller@example.com"]
    assert "getLicense" in mail["Subject"]
    assert "第 1 次调用失败" in mail.get_content()


async def test_a_mail_server_that_is_not_there_ends_nothing(run_sandbox, seller, until, unused_tcp_port):
    server = MailServer(host="127.0.0.1", port=unused_tcp_port, to="seller@example.com")
    async with run_sandbox(mail_server=server) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        seller.script = [REFUSAL]
        order = await buy(sandbox, "LICENSE_1_0")
        await until(lambda: sandbox.state.orders[order["order_id"]].license)
        assert len(await mails(sandbox)) == 1


async def test_a_long_excuse_is_cut(paired, seller):
    seller.script = [{"body": callbacks.result(CallbackCode.INTERNAL_ERROR)[:-2] + b"x" * 60_000 + b'"}'}] * 9

    await buy(paired, "LICENSE_1_0")

    assert max(len(mail["text"]) for mail in await mails(paired)) < 2_000
