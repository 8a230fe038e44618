"""What becomes of purchases, and how the seller is told: every change, its call, retries, mails, the end of a schedule, probes and chaos."""

import asyncio
from collections import Counter

import msgspec
import pytest

from licensesvc.domain.instants import DAY
from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.sandbox.chaos import REFUSED, Chaos, Mischief, Wish
from licensesvc.sandbox.marketplace import SCHEDULES
from licensesvc.sandbox.orders import V1_ACTIVITIES, Activity

REFUSAL = callbacks.result(CallbackCode.INTERNAL_ERROR)


@pytest.fixture
def hears_all(seller, monkeypatch):
    """The stand-in reads every call there is."""
    monkeypatch.setattr(callbacks, "parse_order_notify", callbacks.parse_v2)
    parse_v1 = callbacks.parse_v1
    monkeypatch.setattr(callbacks, "parse_get_license", parse_v1)
    success = callbacks.get_license_success
    monkeypatch.setattr(callbacks, "get_license_success", lambda text, instance: success(text, instance or "i"))
    answer = seller.answer

    def answered(scope, body):
        fields = msgspec.json.decode(body) if body else {}
        if fields.get("activity") == "newInstance":
            return b'{"resultCode":"000000","resultMsg":"success.","instanceId":"i-1"}'
        try:
            return answer(scope, body)
        except AttributeError:  # only getLicense has a businessId
            return callbacks.result(CallbackCode.SUCCESS)

    seller.answer = answered
    return seller


async def buy(sandbox, dialect, **order):
    wanted = {"product_id": "OFFI1", "dialect": dialect, "notify": False, "period_type": "year", **order}
    response = await sandbox.http.post("/sandbox/orders", json=wanted)
    assert response.status_code == 201, response.text
    return response.json()


async def change(sandbox, order, kind):
    return await sandbox.http.post(f"/sandbox/orders/{order['order_id']}/changes/{kind}")


async def told(sandbox, order, count):
    """The transcripts of an order, once there are so many."""
    async with asyncio.timeout(20):
        while True:
            made = (await sandbox.http.get(f"/sandbox/orders/{order['order_id']}")).json()["deliveries"]
            if len(made) >= count:
                return made


@pytest.mark.parametrize(
    ("dialect", "kind", "activity", "says", "order_type"),
    [
        ("LICENSE_2_0", "renew", "refreshLicenseCode", {"scene": "RENEWAL"}, "RENEW"),
        ("LICENSE_2_0", "refund-renewal", "refreshLicenseCode", {"scene": "UNSUBSCRIBE_RENEWAL_PERIOD"}, "UNSUBSCRIBE"),
        ("LICENSE_2_0", "freeze", "updateLicenseCodeStatus", {"status": "FREEZE"}, None),
        ("LICENSE_2_0", "unfreeze", "updateLicenseCodeStatus", {"status": "UNFREEZE"}, None),
        ("LICENSE_2_0", "release", "releaseLicenseCode", {}, None),
        ("LICENSE_2_0", "refund", "releaseLicenseCode", {}, "UNSUBSCRIBE"),
        ("LICENSE_1_0", "renew", "refreshLicense", {}, "RENEW"),
        ("LICENSE_1_0", "expire", "expireLicense", {}, None),
        ("LICENSE_1_0", "release", "releaseLicense", {}, None),
        ("LICENSE_1_0", "refund", "releaseLicense", {}, "UNSUBSCRIBE"),
    ],
)
async def test_each_change_makes_its_call_and_its_order(paired, hears_all, dialect, kind, activity, says, order_type):
    order = await buy(paired, dialect)

    changed = (await change(paired, order, kind)).json()

    [delivery] = changed["deliveries"]
    assert (delivery["activity"], delivery["verdict"]) == (activity, "success")
    if delivery["request_body"]:
        fields = msgspec.json.decode(delivery["request_body"])
        assert list(fields) == sorted(fields)
        assert says.items() <= fields.items()
        assert fields.get("orderId") == (changed["order"]["order_id"] if order_type else None)
    assert (changed["order"]["order_type"] if changed["order"] else None) == order_type
    if changed["order"]:
        assert changed["order"]["of"] == order["order_id"]
        shown = await paired.http.get(f"/sandbox/orders/{changed['order']['order_id']}")
        assert shown.json()["order_type"] == order_type


@pytest.mark.parametrize(
    ("dialect", "order", "kinds"),
    [
        ("LICENSE_1_0", {}, ["freeze", "unfreeze", "claim"]),
        ("LICENSE_2_0", {"period_type": None}, ["renew"]),
        ("GENERAL", {}, ["renew"]),
        ("LICENSE_1_0", {"deliver": False}, ["release"]),
    ],
)
async def test_a_change_that_there_is_none_of_is_refused(paired, hears_all, dialect, order, kinds):
    placed = await buy(paired, dialect, **order)
    for kind in kinds:
        assert (await change(paired, placed, kind)).status_code == 409
    assert (await change(paired, placed, "nonsense")).status_code == 404


async def test_a_released_code_and_a_change_are_not_changed_again(paired, hears_all):
    order = await buy(paired, "LICENSE_2_0")
    renewal = (await change(paired, order, "renew")).json()["order"]
    assert (await change(paired, renewal, "renew")).status_code == 409
    await change(paired, order, "release")
    assert (await change(paired, order, "renew")).status_code == 409


@pytest.mark.parametrize(
    "activity", [Activity.REFRESH_LICENSE_CODE, Activity.UPDATE_LICENSE_CODE_STATUS, Activity.RELEASE_LICENSE_CODE]
)
def test_the_documented_retries_of_license_2_0(activity):
    assert SCHEDULES[activity].times == 60
    assert SCHEDULES[activity].every == 120_000


def test_every_call_has_a_schedule():
    assert SCHEDULES.keys() == set(Activity)
    assert all(SCHEDULES[activity].times == 0 for activity in V1_ACTIVITIES - {Activity.GET_LICENSE})


async def test_a_failing_call_is_made_61_times_each_with_a_mail(paired, hears_all):
    order = await buy(paired, "LICENSE_2_0")
    hears_all.script = [{"body": REFUSAL}] * 61

    await change(paired, order, "freeze")
    made = await told(paired, order, 61)

    assert Counter(delivery["ok"] for delivery in made) == {False: 61}
    mails = (await paired.http.get("/sandbox/mails")).json()
    assert [mail["attempt"] for mail in mails] == list(range(1, 62))
    assert "卖家中心" in mails[-1]["text"]


async def test_it_stops_at_the_first_success(paired, hears_all):
    order = await buy(paired, "LICENSE_2_0")
    hears_all.script = [{"body": REFUSAL}] * 3
    await change(paired, order, "freeze")
    made = await told(paired, order, 4)
    assert [delivery["ok"] for delivery in made] == [False] * 3 + [True]


async def test_a_purchase_that_nobody_takes_is_refunded_by_itself_and_get_license_stays_with_the_seller(
    paired, hears_all, state, until
):
    hears_all.script = [{"body": REFUSAL}] * 61
    online = await buy(paired, "ONLINE_LICENSE")
    await until(lambda: state.orders[online["order_id"]].stage == "自动退款")
    assert state.orders[online["order_id"]].order_type == "UNSUBSCRIBE"

    hears_all.script = [{"body": REFUSAL}] * 4
    asked = await buy(paired, "LICENSE_1_0")
    await until(lambda: state.orders[asked["order_id"]].stage == "商家实施交付License")
    taken = await buy(paired, "LICENSE_1_0")
    assert state.orders[taken["order_id"]].stage == "用户确认验收"


async def test_upper_case_signatures_by_switch(run_sandbox, seller, state):
    async with run_sandbox(state, upper_case=True) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        await sandbox.http.post("/sandbox/orders", json={"product_id": "OFFI1", "dialect": "GENERAL"})
    assert seller.kinds() == ["OrderNotify"]
    signature = seller.queries[0].split("signature=")[1].split("&")[0]
    assert signature == signature.upper()


async def test_saved_cases_are_replayed_and_five_bad_days_freeze_the_product(run_sandbox, hears_all, state):
    now = [1_800_000_000_000]
    async with run_sandbox(state, clock=lambda: now[0], time_factor=1.0) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": hears_all.url})
        import tests.sandbox.conftest as stand_in

        stand_in_now, stand_in.now = stand_in.now, lambda: now[0]
        try:
            names = (await sandbox.http.post("/sandbox/probes/cases", json={"product_id": "OFFI1"})).json()
            assert "refreshLicenseCode RENEWAL" in names
            [good] = (await sandbox.http.post("/sandbox/probes/replay")).json()
            assert good["failed"] == {}
            for _ in range(5):
                now[0] += DAY
                hears_all.script = [{"body": REFUSAL}]
                [bad] = (await sandbox.http.post("/sandbox/probes/replay")).json()
                assert len(bad["failed"]) == 1
        finally:
            stand_in.now = stand_in_now
        shown = (await sandbox.http.get("/sandbox/probes")).json()
        assert (shown["failing_days"], shown["frozen"]) == ({"OFFI1": 5}, ["OFFI1"])
        refused = await sandbox.http.post(
            "/sandbox/orders", json={"product_id": "OFFI1", "dialect": "GENERAL", "notify": False}
        )
        assert refused.status_code == 409
        assert "frozen" in refused.json()["detail"]


def test_a_seed_tells_all_mischief():
    first, again, other = (Chaos(Wish(seed=seed, rate=0.5)) for seed in (1, 1, 2))
    told = [first.next() for _ in range(200)]
    assert told == [again.next() for _ in range(200)]
    assert told != [other.next() for _ in range(200)]
    assert set(told) == set(Mischief)


async def test_under_chaos_every_delivery_ends_well_and_what_must_be_refused_is(run_sandbox, state, tmp_path):
    from tests.sandbox.conftest import now
    from tests.support_edges import listening, open_edge

    async with open_edge(tmp_path) as edge:
        edge.clock.now = now()
        async with listening(edge.app) as port:
            state._content.callback_key = "0123456789abcdef-demo-key"
            async with run_sandbox(state, clock=edge.clock, chaos=Wish(seed=7, rate=1.0)) as sandbox:
                url = f"http://127.0.0.1:{port}{edge.shop.url}"
                await sandbox.http.put("/sandbox/seller", json={"callback_url": url})
                orders = [await buy(sandbox, "LICENSE_1_0", product_id="OFFI100", notify=True) for _ in range(20)]
                shown = [(await sandbox.http.get(f"/sandbox/orders/{o['order_id']}")).json() for o in orders]
        deliveries = [delivery for order in shown for delivery in order["deliveries"]]
        assert [d for d in deliveries if not d["ok"]] == []
        assert {d["mischief"] for d in deliveries} >= {
            "duplicate",
            "concurrent duplicate",
            "bad signature",
            "clock skew",
        }
        assert {d["verdict"] for d in deliveries if d["mischief"] in set(REFUSED)} == {"refused as it should be"}
        codes = [order["license"] for order in shown]
        assert len(set(codes)) == 20
