"""order/query of the sandbox as a seller's program meets it: over a socket, signed by the official SDK or our client."""

import warnings
from urllib.parse import quote

import httpx2
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from licensesvc.domain.instants import MINUTE
from licensesvc.marketplace.huawei.aksk import sdk_date
from licensesvc.marketplace.huawei.client import Account, MarketplaceClient
from licensesvc.marketplace.huawei.orders import MarketplaceRefusal
from licensesvc.sandbox.clock import wall_clock

PATH = "/api/mkp-openapi-public/global/v1/order/query"
NEW = {"product_id": "OFFI1", "dialect": "LICENSE_1_0", "notify": False, "deliver": False}
# The one answer of production that was seen, byte for byte (spec §1.6).
OBSERVED = '{"resultCode":"MKT.0000","resultMsg":"Success","orderInfo":{"orderId":"MOCKPERIODYEARNEW","orderType":"NEW","createTime":"20241121090846","orderLine":[{"orderLineId":"MOCKPERIODYEARNEW-000001","chargingMode":"PERIOD","periodType":"year","periodNumber":1,"expireTime":"20251121235959","productInfo":[{"productId":"OFFI846204237451911168","skuCode":"0a4d1578-5295-46a7-92d4-7c803dccc51d","linearValue":50,"productName":"MOCK测试商品,测试规格,基础版,包周期"}],"extendParams":[{"name":"emailDomainName","value":"test.xxxx.com"},{"name":"ip","value":"127.0.0.1"}],"currency":"100","currencyAfterDiscount":"100"}],"buyerInfo":{"mobilePhone":"18688888888","email":null,"customerId":"459bbbec25d24749b2eb83be37b602a8","customerName":"mock_user_01","customerRealName":"测试用户1","customerType":0,"userId":null,"userName":null},"extendParams":[]}}'
MOCKS = {
    "MOCKPERIODYEARNEW": ("NEW", "PERIOD"),
    "MOCKONETIMENEW": ("NEW", "ONE_TIME"),
    "MOCKONDEMAND": ("NEW", "ON_DEMAND"),
    "MOCKONDEMANDPKG": ("NEW", "ON_DEMAND_PKG"),
    "MOCKPERIODDAYTRIAL": ("TRIAL", "PERIOD"),
    "MOCKMONTYTRIALTOFORMAL": ("TRIAL_TO_FORMAL", "PERIOD"),
    "MOCKMONTYUNSUBSCRIBE": ("UNSUBSCRIBE", "PERIOD"),
    "MOCKMONTYRENEW": ("RENEW", "PERIOD"),
    "MOCKMONTYCHANGE": ("CHANGE", "PERIOD"),
}


def signed(sandbox, query, *, access_key=None, secret=None, date=None, body=""):
    """URL and headers as the official SDK makes them."""
    request = SdkRequest(
        method="GET",
        schema="http",
        host=httpx2.URL(sandbox.url).netloc.decode(),
        resource_path=PATH,
        query_params=query,
        header_params={"X-Sdk-Date": sdk_date(date or wall_clock())},
        body=body,
    )
    credentials = BasicCredentials(
        ak=access_key or sandbox.state.api_access_key, sk=secret or sandbox.state.api_secret, project_id="unused"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Signer(credentials).sign(request)
    return f"{sandbox.url}{request.uri}", dict(request.header_params)


async def query(sandbox, *pairs, **options):
    url, headers = signed(sandbox, list(pairs), **options)
    return await sandbox.http.get(url, headers=headers)


async def place(sandbox, **fields):
    return (await sandbox.http.post("/sandbox/orders", json={**NEW, **fields})).json()


def shape(value):
    """Names in their order and the types of values."""
    if isinstance(value, dict):
        return [(name, shape(member)) for name, member in value.items()]
    if isinstance(value, list):
        return [shape(member) for member in value]
    return type(value).__name__


async def test_the_observed_mock_order_comes_byte_for_byte(sandbox):
    answer = await query(sandbox, ("orderId", "MOCKPERIODYEARNEW"))

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    assert answer.content == OBSERVED.encode()


@pytest.mark.parametrize("order_id", MOCKS)
async def test_each_mock_order_has_the_observed_structure(local, order_id):
    line_id = f"{order_id}-000001"

    order = (await query(local, ("orderId", order_id), ("orderLineId", line_id))).json()["orderInfo"]

    observed = httpx2.Response(200, content=OBSERVED.encode()).json()["orderInfo"]
    (line,) = order["orderLine"]
    assert (order["orderType"], line["chargingMode"]) == MOCKS[order_id]
    assert (order["orderId"], line["orderLineId"]) == (order_id, line_id)
    for name in ("periodType", "periodNumber", "expireTime"):
        if line[name] is None:
            line[name] = observed["orderLine"][0][name]
    assert shape(order) == shape(observed)


async def test_a_placed_order_is_found_by_our_client(sandbox):
    placed = await place(sandbox, sku_code="sku-1", amount=7, period_type="month", period_number=3, order_type="TRIAL")
    account = Account(
        hosts=(sandbox.url,), access_key=sandbox.state.api_access_key, secret_key=sandbox.state.api_secret
    )

    async with MarketplaceClient() as client:
        order = await client.order_query(account, placed["order_id"], placed["order_line_id"], wall_clock())
        with pytest.raises(MarketplaceRefusal, match=r"MKT\.0150"):
            await client.order_query(account, "CSNOBODYSORDER", None, wall_clock())

    (line,) = order.order_line
    (product,) = line.product_info
    assert order.order_type == "TRIAL"
    assert (line.charging_mode, line.period_type, line.period_number) == ("PERIOD", "month", 3)
    assert (product.product_id, product.sku_code, product.linear_value) == ("OFFI1", "sku-1", 7)


@pytest.mark.parametrize(
    ("pairs", "status", "code"),
    [
        ([], 400, "MKT.0101"),
        ([("orderLineId", "MOCKONDEMAND-000001")], 400, "MKT.0101"),
        ([("orderId", "MOCKONDEMAND"), ("surplus", "1")], 400, "MKT.0101"),
        ([("orderId", "MOCKONDEMAND"), ("orderId", "MOCKONDEMAND")], 400, "MKT.0101"),
        ([("orderid", "MOCKONDEMAND")], 400, "MKT.0101"),
        ([("orderId", "")], 500, "MKT.0100"),
        ([("orderId", "C" * 65)], 500, "MKT.0100"),
        ([("orderId", "CS 1")], 500, "MKT.0100"),
        ([("orderId", "订单")], 500, "MKT.0100"),
        ([("orderId", "CS1\0")], 500, "MKT.0100"),
        ([("orderId", "MOCKONDEMAND"), ("orderLineId", "x" * 65)], 500, "MKT.0100"),
        ([("orderId", "CS0000000000000")], 401, "MKT.0150"),
        ([("orderId", "mockondemand")], 401, "MKT.0150"),
        ([("orderId", "MOCKONDEMAND"), ("orderLineId", "MOCKONDEMAND-000002")], 401, "MKT.0150"),
    ],
)
async def test_a_signed_but_wrong_query_gets_its_documented_error(local, pairs, status, code):
    answer = await query(local, *pairs)

    assert (answer.status_code, answer.json()["resultCode"]) == (status, code)


def refused(answer):
    body = answer.json()
    assert answer.status_code == 401
    assert body.keys() == {"error_msg", "error_code", "request_id"}
    assert body["error_code"] == "APIG.0301"
    return body["error_msg"]


VERIFY_FAILED = "Incorrect IAM authentication information: verify aksk signature fail"


async def test_a_wrong_secret_and_an_unknown_access_key_look_the_same(sandbox):
    mock = ("orderId", "MOCKONDEMAND")

    assert refused(await query(sandbox, mock, secret="wrong")) == VERIFY_FAILED
    assert refused(await query(sandbox, mock, access_key="WRONG")) == VERIFY_FAILED


async def test_one_changed_byte_is_refused(sandbox):
    url, headers = signed(sandbox, [("orderId", "MOCKONDEMAND")])

    assert refused(await sandbox.http.get(url + "P", headers=headers)) == VERIFY_FAILED
    assert refused(await sandbox.http.request("GET", url, headers=headers, content=b"x")) == VERIFY_FAILED
    assert (await sandbox.http.get(url, headers=headers)).status_code == 200


async def test_an_unsigned_query_is_refused(sandbox):
    answer = await sandbox.http.get(f"{PATH}?orderId=MOCKONDEMAND")

    assert refused(answer).endswith("authorization missing")


async def test_a_token_is_illegal(sandbox):
    answer = await sandbox.http.get(f"{PATH}?orderId=MOCKONDEMAND", headers={"X-Auth-Token": "MIIx"})

    assert (answer.status_code, answer.json()) == (401, {"resultCode": "MKT.0154", "resultMsg": "Illegal token"})


@pytest.mark.parametrize("minutes", [-16, 16])
async def test_a_stale_date_is_refused(sandbox, minutes):
    answer = await query(sandbox, ("orderId", "MOCKONDEMAND"), date=wall_clock() + minutes * MINUTE)

    assert refused(answer).endswith("x-sdk-date expired")


async def test_more_than_five_bad_signatures_in_a_row_lock_the_key_for_five_minutes(run_sandbox):
    moment = [wall_clock()]
    mock = ("orderId", "MOCKONDEMAND")
    async with run_sandbox(clock=lambda: moment[0]) as sandbox:
        for bad in (5, 6):
            for _ in range(bad):
                refused(await query(sandbox, mock, secret="wrong"))
            last = await query(sandbox, mock)
            if bad == 5:
                assert last.status_code == 200
        assert refused(last) == "AK access failed to reach the limit"
        moment[0] += 5 * MINUTE
        assert (await query(sandbox, mock)).status_code == 200


async def test_stale_dates_and_unknown_keys_do_not_count_as_bad_signatures(sandbox):
    mock = ("orderId", "MOCKONDEMAND")
    for _ in range(6):
        refused(await query(sandbox, mock, access_key="WRONG"))
        refused(await query(sandbox, mock, secret="wrong", date=wall_clock() - 16 * MINUTE))

    assert (await query(sandbox, mock)).status_code == 200


async def test_raw_bytes_of_the_query_are_what_was_signed(sandbox):
    url, headers = signed(sandbox, [("orderId", "MOCKONDEMAND")])
    reencoded = url.replace("MOCKONDEMAND", "".join(f"%{byte:02X}" for byte in b"MOCKONDEMAND"))

    assert (await sandbox.http.get(httpx2.URL(reencoded), headers=headers)).status_code == 200
    assert quote("MOCKONDEMAND") in url


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_other_methods_are_refused(local, method):
    assert (await local.http.request(method, PATH)).status_code == 405
