"""The sandbox against a real seller over sockets: first attempts, faulty answers, retries, restarts."""

import msgspec
import pytest

from licensesvc.domain.instants import HOUR
from licensesvc.marketplace.huawei.signature_v1 import body_sign
from licensesvc.sandbox.marketplace import SCHEDULES
from licensesvc.sandbox.orders import Activity
from licensesvc.sandbox.state import State, sandbox_file

LICENSE = "LS-0123456789ABCDEFGHJKMNPQ"
NEW = {"product_id": "OFFI 1+2/ü%", "dialect": "LICENSE_1_0", "amount": 5, "period_type": "year"}
ASK_ONLY = {**NEW, "notify": False}
BODY_SIGN_TEXT = "Failed to verify the HTTP Body signature. Expected signature value: "


async def order(sandbox, **fields):
    response = await sandbox.http.post("/sandbox/orders", json=fields)
    assert response.status_code == 201, response.text
    return response.json()


async def test_license_1_0_order_is_announced_then_delivered(paired, seller):
    placed = await order(paired, **NEW)

    assert seller.kinds() == ["OrderNotify", "GetLicense"]
    assert seller.calls[0].order_id == seller.calls[1].order_id == placed["order_id"]
    assert seller.calls[0].order_line_id == placed["order_line_id"]
    assert (seller.calls[1].product_id, seller.calls[1].amount) == (NEW["product_id"], 5)
    assert placed["license"] == LICENSE
    assert placed["instance_id"] == seller.calls[1].business_id
    assert [(call["activity"], call["attempt"], call["ok"]) for call in placed["deliveries"]] == [
        ("orderNotify", 1, True),
        ("getLicense", 1, True),
    ]
    assert seller.headers[0][b"content-type"] == b"application/json"


async def test_a_transcript_tells_all_but_the_signatures(paired, seller):
    placed = await order(paired, **NEW)
    notify, ask = placed["deliveries"]

    assert notify["request"].startswith(f"POST {seller.url}?signature=***&timestamp=")
    assert notify["request_body"].encode() == seller.bodies[0]
    assert ask["request"].startswith(f"GET {seller.url}?activity=getLicense&")
    assert ask["request"].endswith("&authToken=***")
    assert (ask["status"], ask["verdict"]) == (200, "success")
    assert ["Body-Sign", body_sign(ask["body"].encode(), seller.key)] in ask["headers"]
    assert ask["ms"] >= 0
    assert ask["at"] >= placed["created_at"]


@pytest.mark.parametrize("dialect", ["LICENSE_2_0", "GENERAL"])
async def test_other_dialects_are_only_announced(paired, seller, dialect):
    placed = await order(paired, product_id="OFFI1", dialect=dialect)

    assert seller.kinds() == ["OrderNotify"]
    assert (placed["license"] or "PL").startswith("PL")  # a code of License 2.0 is the marketplace's own


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        ({"header": b"body-sign"}, "http header->bodySign is empty."),
        ({"header": b"Body-sign"}, "http header->bodySign is empty."),
        ({"sign": None}, "http header->bodySign is empty."),
        ({"sign": lambda body, key: body_sign(body + b" ", key)}, BODY_SIGN_TEXT),
        ({"sign": lambda body, _: body_sign(body, "another key")}, BODY_SIGN_TEXT),
        ({"sign": lambda *_: 'sign_type="none"'}, "http header->sign_type is not equals HMAC-SHA256"),
        ({"status": 500}, "HTTP status 500"),
        ({"status": 302}, "HTTP status 302"),
        ({"body": b"<html>oops</html>"}, "the answer is not readable as JSON"),
        ({"body": b'{"resultCode":"000005","resultMsg":"sick"}'}, "resultCode is '000005': sick"),
        ({"body": b"x" * 65_537}, "the answer exceeds 65536 bytes"),
    ],
)
async def test_a_faulty_answer_is_told_and_tried_again(paired, seller, until, fault, verdict):
    seller.script = [fault]

    placed = await order(paired, **ASK_ONLY)
    await until(lambda: paired.state.orders[placed["order_id"]].license)

    first, second = (await paired.http.get(f"/sandbox/orders/{placed['order_id']}")).json()["deliveries"]
    assert not first["ok"]
    assert first["verdict"].startswith(verdict)
    assert placed["license"] is None
    assert (second["attempt"], second["ok"]) == (2, True)
    assert seller.calls[0].order_id == seller.calls[1].order_id
    assert seller.calls[0].business_id != seller.calls[1].business_id


async def test_blanks_in_body_sign_are_accepted(paired, seller):
    seller.script = [{"sign": lambda body, key: body_sign(body, key).replace("signature=", "signature= ")}]

    placed = await order(paired, **ASK_ONLY)

    assert placed["license"] == LICENSE


async def test_a_late_answer_counts_as_none(run_sandbox, seller, until):
    seller.script = [{"hang": True}]
    async with run_sandbox(answer_seconds=0.2) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})

        placed = await order(sandbox, **ASK_ONLY)
        await until(lambda: sandbox.state.orders[placed["order_id"]].license)

    (late,) = placed["deliveries"]
    assert late["verdict"] == "no whole answer within 0.2 s"
    assert late["status"] is None
    assert 200 <= late["ms"] < 5_000


async def test_a_seller_with_another_key_refuses_the_call(paired, seller):
    seller.key = "another key"
    seller.script = [{"sign": lambda body, _: body_sign(body, paired.state.callback_key)}]

    placed = await order(paired, **ASK_ONLY)

    assert placed["deliveries"][0]["verdict"] == "resultCode is '000001': authToken does not match"


async def test_an_unreachable_seller_is_told(sandbox, unused_tcp_port):
    await sandbox.http.put("/sandbox/seller", json={"callback_url": f"http://127.0.0.1:{unused_tcp_port}/c"})

    placed = await order(sandbox, **ASK_ONLY)

    assert placed["deliveries"][0]["verdict"].startswith("ConnectError")


def test_the_schedules_are_the_documented_ones():
    assert SCHEDULES[Activity.GET_LICENSE] == (3, HOUR)
    assert SCHEDULES[Activity.ORDER_NOTIFY].times * SCHEDULES[Activity.ORDER_NOTIFY].every == 3 * HOUR


async def test_get_license_ends_after_three_retries(paired, seller, until):
    seller.script = [{"status": 500}] * 9

    placed = await order(paired, **ASK_ONLY)
    await until(lambda: len(seller.calls) == 4)
    # A second order's whole way shows that nothing of the first one is left to come.
    seller.script = []
    await order(paired, **ASK_ONLY)

    assert [call.order_id for call in seller.calls].count(placed["order_id"]) == 4


async def test_a_notification_is_retried_until_it_is_answered(paired, seller, until):
    seller.script = [{"status": 500}] * 7

    placed = await order(paired, product_id="OFFI1", dialect="GENERAL")
    path = f"/sandbox/orders/{placed['order_id']}"
    await until(lambda: len(seller.calls) == 8)
    await until(lambda: not seller.script)

    deliveries = []
    while len(deliveries) < 8:
        deliveries = (await paired.http.get(path)).json()["deliveries"]
    assert [call["ok"] for call in deliveries] == [False] * 7 + [True]
    nonces = {query.partition("nonce=")[2] for query in seller.queries}
    assert len(nonces) == 8


async def test_redelivery_is_the_same_call_with_fresh_business_id_and_nonce(paired, seller):
    placed = await order(paired, **NEW)

    response = await paired.http.post(f"/sandbox/orders/{placed['order_id']}/redeliver")

    assert response.status_code == 200
    assert [call["ok"] for call in response.json()["deliveries"]] == [True, True]
    assert seller.kinds() == ["OrderNotify", "GetLicense"] * 2
    first, again = seller.calls[1], seller.calls[3]
    assert msgspec.structs.replace(again, business_id=first.business_id) == first
    assert again.business_id != first.business_id
    assert seller.queries[0] != seller.queries[2]


async def test_another_license_for_the_same_order_is_refused(paired, seller):
    placed = await order(paired, **ASK_ONLY)
    seller.script = [{"body": b'{"resultCode":"000000","license":"LS-OTHER","instanceId":"i"}'}]

    again = (await paired.http.post(f"/sandbox/orders/{placed['order_id']}/redeliver")).json()

    assert again["deliveries"][0]["verdict"] == "the same order was answered with another license"
    assert again["license"] == LICENSE


async def test_redelivery_replaces_the_pending_retry(run_sandbox, seller):
    seller.script = [{"status": 500}]
    async with run_sandbox(time_factor=1.0) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        placed = await order(sandbox, **ASK_ONLY)

        again = (await sandbox.http.post(f"/sandbox/orders/{placed['order_id']}/redeliver")).json()

    assert [call["attempt"] for call in again["deliveries"]] == [1]
    assert again["license"] == LICENSE


async def test_a_restarted_sandbox_keeps_its_orders_and_its_seller(run_sandbox, seller, tmp_path):
    async with run_sandbox() as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        placed = await order(sandbox, **NEW)

    async with run_sandbox(State.open(sandbox_file(tmp_path))) as sandbox:
        listed = (await sandbox.http.get("/sandbox/orders")).json()
        again = (await sandbox.http.post(f"/sandbox/orders/{placed['order_id']}/redeliver")).json()

    assert listed["total"] == 1
    assert listed["orders"][0]["license"] == LICENSE
    assert [call["ok"] for call in again["deliveries"]] == [True, True]


async def test_a_pending_retry_does_not_keep_the_sandbox_alive(run_sandbox, seller):
    seller.script = [{"status": 500}] * 2
    async with run_sandbox(time_factor=1.0) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        await order(sandbox, **NEW)

    assert len(seller.calls) == 2
