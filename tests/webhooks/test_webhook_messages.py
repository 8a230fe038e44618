"""What arrives: signed as the official verifier demands, ids and facts only, once per event."""

import base64
import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError

from licensesvc.domain.instants import HOUR, SECOND
from licensesvc.services.webhooks.manage_webhooks import RotateSecret, rotate_secret, send_ping
from licensesvc.storage import webhook_endpoints
from tests.support_webhooks import (
    deliveries,
    dispatching,
    happen,
    raw_key,
    receiving,
    settled,
    subscribe,
    tried,
    until,
)

OTHER_KEY = Ed25519PrivateKey.generate().public_key().public_bytes_raw()


@pytest.fixture(params=["sqlite"])
def engine(request):
    """Both engines carry deliveries in the tests of receivers and of crashes."""
    return request.param


@pytest.fixture
def clock(clock):
    """The verifier compares with the clock of this host."""
    clock.now = int(time.time() * SECOND)
    return clock


def verifies_ed25519(call, public_key):
    key = Ed25519PublicKey.from_public_bytes(raw_key(public_key))
    content = f"{call.headers['webhook-id']}.{call.headers['webhook-timestamp']}.".encode() + call.body
    for signature in call.headers["webhook-signature"].split(" "):
        kind, _, text = signature.partition(",")
        if kind == "v1a":
            try:
                key.verify(base64.b64decode(text, validate=True), content)
            except InvalidSignature:
                continue
            return True
    return False


async def public_keys(rt, endpoint):
    found = await rt.db.read(lambda tx: webhook_endpoints.secrets(tx, [endpoint.id], rt.clock()))
    return [secret.public_key for secret in found if secret.public_key]


async def test_the_official_verifier_accepts_what_is_sent_and_refuses_what_was_changed(rt):
    async with receiving() as receiver, dispatching(rt) as working:
        await subscribe(rt, receiver)
        await happen(rt, ["lic_1"], [1])
        await until(working, lambda: receiver.calls)
        call = receiver.calls[0]
        headers = {name: call.headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
        assert Webhook(receiver.secret).verify(call.body, headers) == call.content
        assert call.headers["content-type"] == "application/json"
        assert [part[:3] for part in headers["webhook-signature"].split(" ")] == ["v1,"]
        for changed in (call.body + b" ", call.body.replace(b"lic_1", b"lic_2")):
            with pytest.raises(WebhookVerificationError):
                Webhook(receiver.secret).verify(changed, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(receiver.secret).verify(call.body, {**headers, "webhook-id": "msg_other"})


async def test_both_kinds_of_signatures_verify_independently(rt):
    async with receiving() as receiver, dispatching(rt) as working:
        endpoint = await subscribe(rt, receiver, signatures=("v1", "v1a"))
        await happen(rt, ["lic_1"], [1])
        await until(working, lambda: receiver.calls)
        (call,) = receiver.calls
        assert sorted(part.partition(",")[0] for part in call.headers["webhook-signature"].split(" ")) == ["v1", "v1a"]
        Webhook(receiver.secret).verify(call.body, call.headers)
        (key,) = await public_keys(rt, endpoint)
        assert key.startswith("whpk_")
        assert verifies_ed25519(call, key)
        assert not verifies_ed25519(call, "whpk_" + base64.b64encode(OTHER_KEY).decode())


async def test_old_and_new_secrets_sign_together_until_the_overlap_is_over(rt, clock):
    async with receiving() as receiver, dispatching(rt) as working:
        endpoint = await subscribe(rt, receiver, signatures=("v1", "v1a"))
        old = receiver.secret
        (old_key,) = await public_keys(rt, endpoint)
        command = RotateSecret()
        _, secret = await rt.db.write(lambda tx: rotate_secret(tx, rt, endpoint.public_id, command, by="test"))
        keys = await public_keys(rt, endpoint)
        assert keys[1] == old_key
        assert secret.shown not in {None, old}
        await happen(rt, ["lic_1"], [1])
        await until(working, lambda: receiver.calls)
        call = receiver.calls[0]
        assert len(call.headers["webhook-signature"].split(" ")) == 4
        for each in (old, secret.shown):
            Webhook(each).verify(call.body, call.headers)
        assert all(verifies_ed25519(call, key) for key in keys)

        clock.now += 24 * HOUR
        await happen(rt, ["lic_1"], [2])
        await until(working, lambda: len(receiver.calls) == 2)
        assert len(receiver.calls[1].headers["webhook-signature"].split(" ")) == 2
        assert await public_keys(rt, endpoint) == keys[:1]
        assert not verifies_ed25519(receiver.calls[1], old_key)
        assert verifies_ed25519(receiver.calls[1], keys[0])


async def test_a_repeat_is_the_same_message_signed_at_another_time(rt, clock):
    async with receiving() as receiver, receiving() as other, dispatching(rt) as working:
        receiver.behave = answer_500
        await subscribe(rt, receiver)
        await subscribe(rt, other)
        await happen(rt, ["lic_1"], [1])
        await tried(rt, working, receiver, other)
        clock.now += 6 * SECOND
        receiver.heal()
        await until(working, lambda: receiver.accepted)
        first, second = receiver.calls
        assert first.id == second.id == other.calls[0].id
        assert first.body == second.body
        assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 6
        assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


async def answer_500(_receiver, writer):
    writer.write(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")


async def test_an_order_is_told_in_ids_without_code_and_buyer(rt, shop):
    async with receiving() as receiver, dispatching(rt) as working:
        await subscribe(rt, receiver)
        await shop.sell("CS77")
        await until(working, lambda: len(receiver.calls) >= 2)
        told = {call.content["type"]: call.content for call in receiver.calls}
        assert told["order.received"]["data"]["order"] == "CS77"
        assert told["license.issued"]["data"]["license"].startswith("lic_")
        assert set(told["license.issued"]) == {"type", "timestamp", "data"}


async def test_free_text_stays_inside(rt):
    async with receiving() as receiver, dispatching(rt) as working:
        await subscribe(rt, receiver)
        await happen(rt, ["lic_1"], [1])
        await until(working, lambda: receiver.calls)
    assert receiver.calls[0].content["data"] == {"license": "lic_1", "from": 0, "to": 1}


async def test_only_what_the_filter_names_is_sent_and_nothing_from_before(rt):
    await happen(rt, ["lic_0"], [1])
    async with receiving() as everything, receiving() as orders, receiving() as licenses, dispatching(rt) as working:
        for receiver, events in ((everything, ("*",)), (orders, ("order.received",)), (licenses, ("license.*",))):
            await subscribe(rt, receiver, events=events)
        await happen(rt, ["lic_1"], [1])
        await until(working, lambda: everything.calls and licenses.calls)
        await settled(rt, working, everything, orders, licenses)
        assert [call.subject for call in everything.calls] == ["lic_1"]
        assert [call.subject for call in licenses.calls] == ["lic_1"]
        assert await deliveries(rt, orders.endpoint) == []


async def test_a_ping_goes_to_one_endpoint_whatever_its_filter(rt):
    async with receiving() as receiver, receiving() as other, dispatching(rt) as working:
        endpoint = await subscribe(rt, receiver, events=("order.received",))
        await subscribe(rt, other)
        ping = await rt.db.write(lambda tx: send_ping(tx, rt, endpoint.public_id, by="test"))
        await until(working, lambda: receiver.calls)
        assert receiver.calls[0].content["type"] == "ping"
        assert receiver.calls[0].content["data"] == {"endpoint": endpoint.public_id}
        assert receiver.calls[0].id == ping.message_id
        await settled(rt, working, receiver, other)
        assert other.calls == []
