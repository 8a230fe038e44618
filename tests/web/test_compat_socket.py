"""Bytes on a real socket: the official signer, framings of the body, and what is no HTTP request of ours."""

import asyncio
import warnings

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from licensesvc.marketplace.huawei import aksk
from licensesvc.storage.credentials import Scope
from tests.support_edges import (
    ACTIVATE,
    ACTIVATE_ALL,
    HEARTBEAT,
    HEARTBEAT_ALL,
    ORDER_QUERY,
    USAGE,
    exchange,
    listening,
    raw_request,
    rows,
    signed_headers,
)
from tests.web.test_compat_rows import BAD_REQUEST, METHOD, UNKNOWN


@pytest.fixture
async def port(edge):
    async with listening(edge.app) as port:
        yield port


def official(edge, path, body, port, *, method="POST", query=(), pair=None):
    """The headers as the official SDK signs them."""
    pair = pair or edge.pair
    request = SdkRequest(
        method=method,
        schema="https",
        host=f"127.0.0.1:{port}",
        resource_path=path,
        query_params=list(query),
        header_params={"Content-Type": "application/json", "X-Sdk-Date": aksk.sdk_date(edge.clock.now)},
        body=body,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signer = Signer(BasicCredentials(ak=pair.access_key, sk=pair.secret, project_id="unused"))
        return {name: str(value) for name, value in signer.sign(request).header_params.items()}


async def test_the_official_signer_is_accepted_and_one_changed_byte_refused(edge, port):
    body = b'{"license":"%b"}' % (await edge.shop.sell_code()).encode()
    headers = official(edge, ACTIVATE, body, port)

    forged = await exchange(port, raw_request("POST", ACTIVATE, headers, body.replace(b"}", b" }")))
    elsewhere = await exchange(port, raw_request("POST", HEARTBEAT, headers, body))
    honest = await exchange(port, raw_request("POST", ACTIVATE, headers, body))
    asked = await exchange(port, raw_request("POST", HEARTBEAT, official(edge, HEARTBEAT, body, port), body))

    assert forged.startswith(b"HTTP/1.1 401 ")
    assert elsewhere.startswith(b"HTTP/1.1 401 ")
    assert b'"error_code":"APIG.0301"' in forged
    assert honest.startswith(b"HTTP/1.1 200 ")
    assert b"\r\ncontent-type: application/json;charset=UTF-8\r\n" in honest
    assert b'"error_code":"92020000"' in honest
    assert b'"status":"ALIVE"' in asked


async def test_the_official_signer_is_accepted_by_every_call(edge, port):
    code = (await edge.shop.sell_code("CS1")).encode()
    calls = {
        ACTIVATE_ALL: b'{"license_list":["%b"]}' % code,
        HEARTBEAT_ALL: b'{"license_list":["%b"]}' % code,
        USAGE: b'{"usage_info":[{"license":"%b","software_usage_Info":[{"id":"account1"}]}]}' % code,
    }
    for path, body in calls.items():
        answer = await exchange(port, raw_request("POST", path, official(edge, path, body, port), body))
        assert answer.startswith(b"HTTP/1.1 200 "), path
        assert b'"error_code":"92020000"' in answer, path
    seller = await edge.shop.pair(Scope.SELLER)
    asked = [("orderId", "CS1"), ("orderLineId", "CS1-000001")]
    headers = official(edge, ORDER_QUERY, b"", port, method="GET", query=asked, pair=seller)
    target = f"{ORDER_QUERY}?orderId=CS1&orderLineId=CS1-000001"
    assert b'"resultCode":"MKT.0000"' in await exchange(port, raw_request("GET", target, headers))
    assert b'"APIG.0301"' in await exchange(port, raw_request("GET", target.replace("CS1&", "CS2&"), headers))


async def test_a_chunked_body_is_read_and_bounded(edge, port):
    body = b'{"license":"PL1"}'
    headers = {**signed_headers(edge.pair, ACTIVATE, body, edge.clock.now), "Transfer-Encoding": "chunked"}
    head = f"POST {ACTIVATE} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    start = f"{head}Connection: close\r\n\r\n".encode()
    pieces = b"".join(b"1\r\n%b\r\n" % body[n : n + 1] for n in range(len(body))) + b"0\r\n\r\n"

    assert (await exchange(port, start + pieces)).endswith(UNKNOWN)
    piece = b"2000\r\n%b\r\n" % (b" " * 0x2000)
    assert (await exchange(port, start, *[piece] * 128, b"0\r\n\r\n")).endswith(BAD_REQUEST)


async def test_a_body_of_a_mebibyte_gets_its_answer_before_the_connection_closes(edge, port):
    body = b" " * 1024 * 1024
    headers = signed_headers(edge.pair, ACTIVATE, body, edge.clock.now)

    assert (await exchange(port, raw_request("POST", ACTIVATE, headers, body))).endswith(BAD_REQUEST)


async def test_an_upgrade_to_a_websocket_is_just_another_method(edge, port):
    headers = {
        "Host": "x",
        "Upgrade": "websocket",
        "Connection": "Upgrade, close",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {ACTIVATE} HTTP/1.1\r\n{head}\r\n".encode())
        answer = await reader.readuntil(METHOD)
        writer.close()
        await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    "raw",
    [
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        b"POST %b HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00 %b\r\n\r\n",
        b"POST %b\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST %b HTTP/1.1\r\nHost: x\r\nX-\x00: y\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_the_server_goes_on(edge, port, raw):
    answer = await exchange(port, raw % ACTIVATE.encode())

    assert answer.startswith(b"HTTP/1.1 4") or answer == b""
    body = b'{"license":"PL1"}'
    headers = signed_headers(edge.pair, ACTIVATE, body, edge.clock.now)
    assert (await exchange(port, raw_request("POST", ACTIVATE, headers, body))).endswith(UNKNOWN)
    assert await rows(edge.rt, "signature_failures") == [0]


async def test_many_requests_on_one_connection_are_answered_in_order(edge, port):
    codes = [await edge.shop.sell_code(f"CS{number}") for number in range(5)]
    sent = []
    for code in (*codes, codes[0]):
        body = b'{"license":"%b"}' % code.encode()
        headers = signed_headers(edge.pair, ACTIVATE, body, edge.clock.now)
        last = len(sent) == len(codes)
        sent.append(raw_request("POST", ACTIVATE, headers, body).replace(b"close", b"close" if last else b"keep-alive"))

    answers = await exchange(port, b"".join(sent))

    assert answers.count(b'"error_code":"92020000"') == 5
    assert answers.endswith(b'{"error_code":"92020003","error_msg":"illegal state"}')
