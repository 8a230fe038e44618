"""The header that the marketplace matches case-sensitively, on the bytes of a socket (spec §4.1.2)."""

import json
from pathlib import Path

import pytest

from licensesvc.marketplace.huawei import signature_v1, signature_v2
from tests.support_edges import (
    KEY,
    exchange,
    get_license_target,
    listening,
    notification,
    notify_target,
    raw_request,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "marketplace.json").read_text(encoding="utf-8"))


@pytest.fixture
async def port(edge):
    async with listening(edge.app) as port:
        yield port


def signed_answer(raw):
    """The body of an answer whose Body-Sign stands in exactly this case and is right."""
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    _, found, rest = head.partition(b"\r\nBody-Sign: ")
    assert found
    signature_v1.check_body_sign(rest.partition(b"\r\n")[0].decode(), body, KEY)
    return json.loads(body)


async def test_body_sign_is_written_in_exactly_this_case_on_every_kind_of_answer(edge, port):
    now, body = edge.clock.now, notification()
    host = {"Host": "licenses.example"}
    success = get_license_target(edge.shop, now)
    forged = success.replace("orderId=CS1", "orderId=CS2")
    notify = notify_target(edge.shop, body, now)

    delivered = signed_answer(await exchange(port, raw_request("GET", success, host)))
    assert delivered["license"].startswith("LS-")
    assert signed_answer(await exchange(port, raw_request("GET", forged, host)))["resultCode"] == "000001"
    assert signed_answer(await exchange(port, raw_request("POST", notify, host, body)))["resultCode"] == "000000"
    assert signed_answer(await exchange(port, raw_request("PUT", notify, host, body)))["resultCode"] == "000002"


async def test_an_unknown_connection_gets_no_signature(port):
    answer = await exchange(port, raw_request("GET", "/callbacks/con_unknown?a=b", {"Host": "x"}))

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"body-sign" not in answer.lower()
    assert b'"resultCode":"000001"' in answer


async def test_a_caller_that_hangs_up_in_its_body_leaves_nothing(edge, port):
    import asyncio

    from tests.support_edges import rows

    body = notification()
    whole = raw_request("POST", notify_target(edge.shop, body, edge.clock.now), {"Host": "x"}, body)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(whole[:-5])
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert b'"resultCode":"000000"' in await exchange(port, whole)
    assert await rows(edge.rt, "outbox", "nonces") == [1, 1]


def test_the_published_vectors_hold():
    vector = VECTORS["body_sign"] if isinstance(VECTORS["body_sign"], dict) else VECTORS["body_sign"][0]
    signed = signature_v1.body_sign(vector["body"].encode(), vector["access_key"])
    assert signed == f'sign_type="HMAC-SHA256", signature="{vector["signature"]}"'
    vector = VECTORS["url_signature_v2"]
    vector = vector if isinstance(vector, dict) else vector[0]
    assert (
        signature_v2.sign_url(vector["body"].encode(), vector["access_key"], vector["nonce"], int(vector["timestamp"]))
        == (vector["signature"])
    )
