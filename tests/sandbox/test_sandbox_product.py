"""The fake product against a small real server that speaks both APIs."""

import json

import httpx2
import pytest

from licensesvc.marketplace.huawei import aksk, openapi
from licensesvc.marketplace.huawei.result_codes import OpenApiCode, gateway_error
from licensesvc.sandbox.product import Product

ACCESS_KEY, SECRET_KEY = "AKPRODUCT", "SKPRODUCT"
GLOBAL = "/api/mkp-openapi-public/global"
COMPATIBLE = f"{GLOBAL}/v1/license"


class Host:
    """Verifies signatures of the compatible calls and echoes the native ones."""

    def __init__(self):
        self.seen = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        target = b"?".join(part for part in (scope["raw_path"], scope["query_string"]) if part)
        self.seen.append((scope["method"], target.decode(), body))
        status, answer = self.answer(scope, body)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    def answer(self, scope, body):
        path = scope["path"]
        if not path.startswith(GLOBAL):
            return (204, b"") if scope["method"] == "DELETE" else (200, json.dumps({"got": json.loads(body)}).encode())
        signed = aksk.parse_request(scope["method"], scope["raw_path"], scope["query_string"], scope["headers"])
        if not aksk.matches(signed, SECRET_KEY.encode(), body):
            return gateway_error(aksk.VERIFY_FAILED, "r1")
        if path not in {f"{COMPATIBLE}/activate", f"{COMPATIBLE}/heartbeat"}:
            return 200, openapi.activate_all_success()
        code = openapi.parse_heartbeat(body).license
        if code == "UNKNOWN":
            return openapi.failure(OpenApiCode.UNKNOWN_CODE)
        if path.endswith("/activate"):
            return 200, openapi.activate_success(
                status="ALIVE", expire_time="20261123155959", product_id="p", amount=1, order_id="CS1"
            )
        return 200, openapi.heartbeat_success(
            openapi.LicenseInfo(
                license_code=code,
                status="ALIVE",
                activate_time="20251123121320",
                expire_time="20261123155959",
                product_id="p",
                order_id="CS1",
                amount=1,
            )
        )


@pytest.fixture
async def host(serve_app):
    host = Host()
    async with serve_app(host) as host.url:
        yield host


@pytest.fixture
async def product(host):
    async with Product(host.url + "/", ACCESS_KEY, SECRET_KEY) as product:
        yield product


async def test_activate_is_signed_and_parsed(host, product):
    answer = await product.activate("LS-1", real_effect_time="20251123121320")

    assert answer["error_code"] == "92020000"
    assert json.loads(answer["data"]["license_code_info"])["status"] == "ALIVE"
    assert host.seen == [("POST", f"{COMPATIBLE}/activate", b'{"license":"LS-1","real_effect_time":"20251123121320"}')]


async def test_heartbeat_is_signed_and_parsed(host, product):
    assert (await product.heartbeat("LS-1"))["data"]["license_code"] == "LS-1"
    assert host.seen == [("POST", f"{COMPATIBLE}/heartbeat", b'{"license":"LS-1"}')]


async def test_a_refusal_comes_back_as_its_body(host, product):
    assert (await product.activate("UNKNOWN"))["error_code"] == "92020005"
    async with Product(host.url, ACCESS_KEY, "wrong") as stranger:
        assert (await stranger.heartbeat("LS-1"))["error_code"] == "APIG.0301"


async def test_native_calls_have_their_documented_shapes(host, product):
    assert await product.document("LS-1") == {"got": {"code": "LS-1"}}
    assert await product.validate("LS-1", "n1") == {"got": {"code": "LS-1", "nonce": "n1"}}
    assert await product.validate("LS-1", "n1", "f") == {"got": {"code": "LS-1", "nonce": "n1", "fingerprint": "f"}}
    assert await product.take_seat("LS-1", "f") == {"got": {"code": "LS-1", "fingerprint": "f"}}
    assert await product.give_back("act_1/../x") == {}
    assert [(method, path) for method, path, _ in host.seen] == [
        ("POST", "/v1/licenses/document"),
        ("POST", "/v1/licenses/validate"),
        ("POST", "/v1/licenses/validate"),
        ("POST", "/v1/activations"),
        ("DELETE", "/v1/activations/act_1%2F..%2Fx"),
    ]


async def test_no_answer_is_an_error(unused_tcp_port):
    async with Product(f"http://127.0.0.1:{unused_tcp_port}", ACCESS_KEY, SECRET_KEY) as product:
        with pytest.raises(httpx2.HTTPError):
            await product.heartbeat("LS-1")


async def test_lists_reports_and_questions_are_signed_and_have_their_documented_shapes(host, product):
    assert (await product.activate_all(["LS-1", "LS-2"], real_effect_time="20251123121320"))["error_code"] == "92020000"
    assert (await product.activate_all(["LS-1"]))["error_code"] == "92020000"
    assert (await product.query_all(["LS-1"]))["error_code"] == "92020000"
    assert (await product.report_usage({"LS-1": ["account1"], "LS-2": 100}))["error_code"] == "92020000"
    assert (await product.query_order("CS 1"))["error_code"] == "92020000"
    assert (await product.query_order("CS1", "CS1-000001"))["error_code"] == "92020000"
    assert host.seen == [
        (
            "POST",
            f"{GLOBAL}/v2/license/activate",
            b'{"license_list":["LS-1","LS-2"],"real_effect_time":"20251123121320"}',
        ),
        ("POST", f"{GLOBAL}/v2/license/activate", b'{"license_list":["LS-1"]}'),
        ("POST", f"{GLOBAL}/v2/license/heartbeat", b'{"license_list":["LS-1"]}'),
        (
            "POST",
            f"{GLOBAL}/v2/license/software-usage-info",
            (
                b'{"usage_info":[{"license":"LS-1","software_usage_Info":[{"id":"account1"}]},'
                b'{"license":"LS-2","software_usage_Info":[{"active_num":100}]}]}'
            ),
        ),
        ("GET", f"{GLOBAL}/v1/order/query?orderId=CS%201", b""),
        ("GET", f"{GLOBAL}/v1/order/query?orderId=CS1&orderLineId=CS1-000001", b""),
    ]
