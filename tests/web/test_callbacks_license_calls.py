"""License 2.0 and License 1.0 calls through the real application: fields, result codes, effects (spec §§2.0-2.2)."""

import json

import pytest

from licensesvc.domain import errors
from licensesvc.domain.instants import HOUR
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.storage import licenses
from licensesvc.web.callbacks import routes
from tests.support_calls import CODE, REFRESH, RELEASE, STATUS, SUCCESS, V1, V2, Sender, state
from tests.support_edges import HEARTBEAT_ALL, ask, change, get_license_target, open_shop, rows
from tests.web.test_callbacks_calls import code_of, last_message


def changed(call, name, value):
    return {key: told for key, told in {**call, name: value}.items() if told is not None}


TEXT_FAULTS = {"empty": "", "number": 7, "list": ["x"], "object": {"x": 1}, "true": True, "NUL": "x\0"}


def v2_faults(call):
    """Every fault of every documented field, and the result code that it has."""
    mandatory = set(call) - {"productId", "testFlag"} - ({"orderId", "orderLineId"} if call is RELEASE else set())
    lengths = {"expireTime": 20, "license": 64, "orderId": 64, "orderLineId": 64, "productId": 64, "scene": 64}
    for name in call:
        yield f"{name} missing", changed(call, name, None), "000002" if name in mandatory else "000000"
        yield f"{name} null", {**call, name: None}, "000002" if name in mandatory else "000000"
        for fault, value in TEXT_FAULTS.items():
            refused = fault != "empty" or name in mandatory
            yield f"{name} {fault}", {**call, name: value}, "000002" if refused else "000000"
        yield f"{name} too long", {**call, name: "x" * (lengths.get(name, 32) + 1)}, "000002"
    yield "unknown fields", {**call, "more": {"x": [1]}}, "000000"
    yield "no license of ours", {**call, "license": "PLTEST0002"}, "000003"
    yield "longest code", {**call, "license": "P" * 64}, "000003"
    yield "another case", {**call, "license": CODE.lower()}, "000003"


@pytest.mark.parametrize("activity", V2)
async def test_every_field_of_license_2_0_is_checked(edge, two, activity):
    call = V2[activity]
    told, expected = {}, {}
    for fault, fields, code in v2_faults(call):
        before = await edge.written()
        expected[fault], told[fault] = code, code_of(await two.post(fields))
        if code != "000000":
            assert await edge.written() == before, fault
            assert (await last_message(edge))["outcome"] == code

    assert told == expected


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expireTime": "20281118"}, "000002"),
        ({"expireTime": "20281318110640"}, "000002"),
        ({"expireTime": "00011118110640"}, "000002"),
        ({"expireTime": "2028-11-18T11:06:40"}, "000002"),
        ({"expireTime": "20281118110640123"}, "000000"),
        ({"scene": "TRIAL_TO_FORMAL"}, "000002"),
        ({"scene": "renewal"}, "000002"),
        ({"scene": "UNSUBSCRIBE_RENEWAL_PERIOD"}, "000000"),
        ({"orderId": "x" * 64, "orderLineId": "y" * 64, "productId": "z" * 64}, "000000"),
        ({"productId": "unmapped"}, "000000"),
    ],
    ids=str,
)
async def test_values_of_a_refresh(two, changes, code):
    answer = await two.post({**REFRESH, **changes})

    assert code_of(answer) == code
    assert code == "000000" or next(iter(changes)) in answer.json["resultMsg"]


@pytest.mark.parametrize("status", ["FROZEN", "freeze", "NORMAL", "UNFREEZE "])
async def test_another_status_is_an_illegal_parameter(two, status):
    assert code_of(await two.post({**STATUS, "status": status})) == "000002"


async def test_every_field_of_license_1_0_is_checked(edge, one):
    told, expected = {}, {}
    for activity, call in V1.items():
        cases = [
            *((name, None, "000002") for name in call),
            *((name, "", "000002") for name in call),
            *((name, "x" * 65, "000002") for name in call),
            *((name, "x\0", "000002") for name in call),
            ("instanceId", "x" * 64, "000003"),
            ("instanceId", "biz-2", "000003"),
            ("testFlag", "2", "000002"),
            ("testFlag", "0", "000000"),
            ("unknown", "x", "000000"),
        ]
        if activity == "refreshLicense":
            cases += [
                ("expireTime", "20281118", "000002"),
                ("productId", "x" * 65, "000002"),
                ("periodType", "fortnight", "000002"),
                ("periodType", "x" * 11, "000002"),
                ("periodType", "DAY", "000000"),
                ("periodType", "", "000000"),
                ("periodNumber", "1.5", "000002"),
                ("periodNumber", "100", "000002"),
            ]
        for name, value, code in cases:
            options = {name: value}
            case = f"{activity} {name} {str(value)[:12]!r}"
            expected[case], told[case] = code, code_of(await one.get(activity, **options))
            if name == "periodType":
                case += " without a number"
                expected[case], told[case] = code, code_of(await one.get(activity, **options, periodNumber=None))

    assert told == expected


async def test_a_foreign_connection_does_not_know_the_code(edge, two):
    other = await open_shop(edge.rt, name="other", sold="OFFI200", kind=DeliveryKind.LICENSE_2_0)
    await change(edge.rt, "UPDATE connections SET unknown_codes = 'learn' WHERE id = $1", other.connection.id)

    for call in V2.values():
        assert code_of(await Sender(edge, other).post(call)) == "000003"
    assert (await state(edge))["version"] == 1


async def heartbeat(edge, shop, code):
    pair = await shop.pair()
    path = "/api/mkp-openapi-public/global/v1/license/heartbeat"
    return (await edge.call(path, {"license": code}, pair=pair)).json


async def activate(edge, shop, code):
    path = "/api/mkp-openapi-public/global/v1/license/activate"
    return (await edge.call(path, {"license": code}, pair=await shop.pair())).json


async def test_software_sees_what_the_marketplace_does(edge, two):
    assert (await activate(edge, two.shop, CODE))["error_code"] == "92020000"
    assert code_of(await two.post(REFRESH)) == "000000"
    beat = (await heartbeat(edge, two.shop, CODE))["data"]
    assert (beat["status"], beat["expire_time"]) == ("ALIVE", "20281118110640")

    edge.clock.now += 800 * 24 * HOUR
    assert code_of(await two.post({**STATUS, "status": "FREEZE"})) == "000000"
    assert (await heartbeat(edge, two.shop, CODE))["data"]["status"] == "EXPIRED"
    assert (await state(edge))["frozen_at"] == edge.clock.now

    assert code_of(await two.post(RELEASE)) == "000000"
    assert (await heartbeat(edge, two.shop, CODE))["data"]["status"] == "RELEASED"
    assert (await activate(edge, two.shop, CODE))["error_code"] == "92020003"


async def test_the_product_of_a_renewal_is_answered_from_then_on_if_we_sell_it(edge, two):
    await open_shop(
        edge.rt, name="yearly", sold="OFFI201", kind=DeliveryKind.LICENSE_2_0, connection=two.shop.connection
    )
    await activate(edge, two.shop, CODE)

    assert code_of(await two.post({**REFRESH, "productId": "OFFI999"})) == "000000"
    assert (await heartbeat(edge, two.shop, CODE))["data"]["product_id"] == "OFFI200"
    assert code_of(await two.post({**REFRESH, "orderId": "CS2703010000BBBBB", "productId": "OFFI201"})) == "000000"
    assert (await heartbeat(edge, two.shop, CODE))["data"]["product_id"] == "OFFI201"


async def test_a_release_by_refund_is_told_apart(edge, two):
    await two.post(RELEASE)

    found = await edge.rt.db.read(lambda tx: tx.one("SELECT * FROM audit_events WHERE kind = 'license.released'"))
    assert json.loads(found["detail"])["refund_order"] == "CS9"
    assert found["actor"] == two.shop.connection.public_id


async def test_what_a_call_did_not_do_is_said_in_its_message(edge, two):
    await two.post({**STATUS, "status": "FREEZE"})
    assert "lies ahead" in (await last_message(edge))["detail"]

    await two.post(RELEASE)
    await two.post(REFRESH)
    assert "RELEASED" in (await last_message(edge))["detail"]
    assert (await last_message(edge))["outcome"] == "000000"


async def test_license_1_0_calls_find_the_license_by_its_instance(edge, one):
    assert code_of(await one.get("refreshLicense")) == "000000"
    assert (await state(edge))["expiry_source"] == "REFRESH"
    answer = await one.get("releaseLicense", orderId="CS-other")
    assert answer.body == SUCCESS
    assert (await state(edge))["state"] == "RELEASED"
    assert "another order" in (await last_message(edge))["detail"]


async def test_older_software_asks_with_its_instance(edge, one, two):
    """Of the caller's own product alone, and alone with the query of one code (spec §1.4)."""
    loaded = await edge.rt.db.read(lambda tx: licenses.by_line(tx, 1))
    code = await edge.rt.db.read(lambda tx: open_code(tx, edge.rt, loaded))
    unknown = {"error_code": "92020005", "error_msg": "license code notexist"}
    assert (await heartbeat(edge, edge.shop, "biz-1"))["error_code"] == "92020011"
    await activate(edge, edge.shop, code)

    by_code, by_instance = await heartbeat(edge, edge.shop, code), await heartbeat(edge, edge.shop, "biz-1")

    assert by_instance["data"] == {**by_code["data"], "license_code": "biz-1"}
    sibling = await open_shop(edge.rt, name="sibling", sold="OFFI300", connection=edge.shop.connection)
    for shop, named in ((two.shop, "biz-1"), (sibling, "biz-1"), (edge.shop, "BIZ-1")):
        assert await heartbeat(edge, shop, named) == unknown
    assert (await heartbeat(edge, edge.shop, "biz-1\0"))["error_code"] == "95000001"
    assert await activate(edge, edge.shop, "biz-1") == unknown
    listed = await edge.call(HEARTBEAT_ALL, {"license_list": ["biz-1"]})
    assert listed.json["error_code"] == "92020020"


async def test_the_device_of_an_order_is_in_its_document_and_nowhere_in_clear(edge):
    text = "W3sibmFtZSI6ImlkZW50aWZpY2F0aW9uQ29kZSIsInZhbHVlIjoiQ0FOQVJZLUhXLTEifV0="
    await ask(edge.app, "GET", get_license_target(edge.shop, edge.clock.now, saasExtendParams=text))

    line = await edge.rt.db.read(lambda tx: tx.one("SELECT terms FROM order_lines"))
    assert json.loads(line["terms"])["identification_code"] == "CANARY-HW-1"
    document = await edge.rt.db.read(lambda tx: tx.one("SELECT facts FROM license_documents"))
    assert json.loads(document["facts"])["identification_code"] == "CANARY-HW-1"
    for table in ("messages", "audit_events"):
        kept = await edge.rt.db.read(lambda tx, table=table: tx.all(f"SELECT * FROM {table}"))  # noqa: S608
        assert "CANARY" not in repr([tuple(row) for row in kept])
    rubbish = await ask(
        edge.app, "GET", get_license_target(edge.shop, edge.clock.now, orderId="CS5", saasExtendParams="eA")
    )
    assert (code_of(rubbish), await rows(edge.rt, "orders")) == ("000002", [1])


async def test_codes_reach_neither_messages_nor_audit(edge, two):
    for call in V2.values():
        await two.post(call)
    await two.post({**REFRESH, "license": "PLCANARY0001"})

    for table in ("messages", "audit_events", "license_calls"):
        kept = await edge.rt.db.read(lambda tx, table=table: tx.all(f"SELECT * FROM {table}"))  # noqa: S608
        text = repr([tuple(row) for row in kept])
        assert CODE not in text
        assert "CANARY" not in text


EXPECTED = {
    "INVALID_PARAMETER": "000002",
    "ORDER_CONFLICT": "000002",
    "NOT_ISSUABLE": "000002",
    "LICENSE_NOT_FOUND": "000003",
    "IN_PROGRESS": "000004",
}


@pytest.mark.parametrize("error", errors.DomainError.__subclasses__(), ids=lambda error: error.code)
async def test_every_refusal_has_its_result_code(edge, two, monkeypatch, error):
    async def refusing(*_args, **_options):
        raise error("a", "b") if error is errors.IllegalTransition else error(**_arguments(error))

    monkeypatch.setattr(routes, "receive_call", refusing)

    answer = await two.post(REFRESH)

    assert code_of(answer) == EXPECTED.get(error.code, "000005")
    assert (await last_message(edge))["outcome"] == EXPECTED.get(error.code, "000005")


def _arguments(error):
    return {"limit": "x", "count": 1, "window_s": 1, "wait_s": 1} if error is errors.RateLimited else {}


async def test_our_own_codes_are_forgiven_as_ever(edge, one):
    loaded = await edge.shop.sell()
    code = await edge.rt.db.read(lambda tx: open_code(tx, edge.rt, loaded.license))

    assert code_of(await one.post({**RELEASE, "license": code.lower().replace("-", "")})) == "000000"
    assert (await state(edge))["state"] == "RELEASED"
