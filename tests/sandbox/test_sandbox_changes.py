"""What becomes of purchases: the order that a change makes, the code, the end of service, and the calls that tell the seller."""

import msgspec
import pytest

from licensesvc.domain.order import OrderType
from licensesvc.domain.product import DeliveryKind
from licensesvc.sandbox import codes
from licensesvc.sandbox.changes import CHANGES, Change, NoSuchChange, Terms, change
from licensesvc.sandbox.orders import NewOrder, Stage, end_of_period, order_info, place

NOW = 1_763_900_000_007  # 2025-11-23T12:13:20.007Z
ALL = [(dialect, kind) for dialect, kinds in CHANGES.items() for kind in kinds]


class Life:
    """One purchase and what it has become of, without a network."""

    def __init__(self, dialect, **order):
        wanted = {"product_id": "OFFI1", "dialect": dialect, "period_type": "year", "notify": False, **order}
        self.order = msgspec.structs.replace(place(msgspec.convert(wanted, NewOrder), NOW), instance_id="i-1")
        self.code = None
        if dialect == "LICENSE_2_0":
            end = end_of_period(self.order, NOW)
            self.code = codes.make(self.order.order_id, "OFFI1", 1, end, unclaimed=order.get("claim", False))
        self.renewals = []

    def __call__(self, kind, **terms):
        changed = change(
            Change(kind),
            self.order,
            self.code,
            NOW,
            renewals=self.renewals,
            terms=Terms(**terms) if terms else None,
        )
        for known in changed.known:
            self.renewals = [known if one.order_id == known.order_id else one for one in self.renewals]
            self.order = known if known.order_id == self.order.order_id else self.order
        self.renewals += [changed.order] if changed.order and changed.order.ended_at else []
        self.code = changed.code or self.code
        return changed


def ends(changed):
    """The end that the seller is told, and the one that order/query shows of the new order."""
    (told,) = (told.fields["expireTime"] for told in changed.calls if "expireTime" in told.fields)
    return told, order_info(changed.order).order_line[0].expire_time


@pytest.mark.parametrize("dialect", ["LICENSE_2_0", "LICENSE_1_0"])
def test_renewals_add_up_and_order_query_says_the_same_as_the_call(dialect):
    life = Life(dialect)

    told = [ends(life("renew")), ends(life("renew")), ends(life("renew", period_type="month", period_number=2))]

    assert told == [(stamp, stamp) for stamp in ("20271123155959", "20281123155959", "20290123155959")]
    assert [renewal.order_type for renewal in life.renewals] == [OrderType.RENEW] * 3
    assert len({renewal.order_id for renewal in life.renewals}) == 3


def test_a_refunded_renewal_takes_its_own_period_back_and_no_more():
    life = Life("LICENSE_2_0")
    life("renew")
    life("renew", period_type="month", period_number=2)

    assert ends(life("refund-renewal")) == ("20271123155959", "20271123155959")
    assert ends(life("refund-renewal")) == ("20261123155959", "20261123155959")
    with pytest.raises(NoSuchChange, match="no renewal"):
        life("refund-renewal")
    assert ends(life("renew")) == ("20271123155959", "20271123155959")


def test_a_renewal_for_another_period_names_the_new_product():
    life = Life("LICENSE_2_0", period_type="month")

    changed = life("renew", period_type="year", product_id="OFFI-YEAR")

    (told,) = changed.calls
    assert told.fields["productId"] == "OFFI-YEAR"
    assert order_info(changed.order).order_line[0].product_info[0].product_id == "OFFI-YEAR"
    assert (changed.order.period_type, changed.order.period_number) == ("year", 1)


def test_the_first_renewal_of_a_trial_makes_it_formal():
    life = Life("LICENSE_2_0", order_type="TRIAL", period_type="day")

    formal, again = life("renew", period_type="year").order, life("renew").order

    assert [formal.order_type, again.order_type] == ["TRIAL_TO_FORMAL", "RENEW"]
    assert [(order.period_type, order.period_number) for order in (formal, again)] == [("year", 1)] * 2


def test_a_late_renewal_ends_the_freeze_as_well():
    life = Life("LICENSE_2_0")
    life("freeze")

    calls = life("renew").calls

    assert [(told.activity, told.fields.get("status")) for told in calls] == [
        ("updateLicenseCodeStatus", "UNFREEZE"),
        ("refreshLicenseCode", None),
    ]
    assert life.code.frozen_at is None
    assert [told.activity for told in life("renew").calls] == ["refreshLicenseCode"]


@pytest.mark.parametrize(("dialect", "kind"), ALL)
def test_new_orders_are_announced_where_the_purchase_was(dialect, kind):
    loud, quiet = (Life(dialect, notify=notify, claim=kind is Change.CLAIM) for notify in (True, False))
    if kind is Change.REFUND_RENEWAL:
        loud("renew"), quiet("renew")
    if kind is Change.EXPIRE:
        for life in (loud, quiet):
            life.code = life.code and msgspec.structs.replace(life.code, activated_at=NOW)

    heard, unheard = loud(kind), quiet(kind)

    announced = [told.fields["orderId"] for told in heard.calls if told.activity == "orderNotify"]
    assert announced == ([heard.order.order_id] if heard.order else [])
    assert "orderNotify" not in {told.activity for told in unheard.calls}


@pytest.mark.parametrize("dialect", ["LICENSE_2_0", "LICENSE_1_0"])
@pytest.mark.parametrize("end", ["release", "refund"])
def test_what_is_released_is_not_changed_again(dialect, end):
    life = Life(dialect)

    changed = life(end)

    assert life.order.stage == (Stage.REFUNDED if end == "refund" else Stage.RELEASED)
    assert life.order.refunded_by == (changed.order.order_id if end == "refund" else None)
    for kind in CHANGES[DeliveryKind(dialect)]:
        with pytest.raises(NoSuchChange, match="released"):
            life(kind)


@pytest.mark.parametrize("refund", [True, False])
def test_a_release_names_an_order_only_when_it_is_a_refund(refund):
    life = Life("LICENSE_2_0")

    changed = life("refund" if refund else "release")

    (told,) = changed.calls
    assert told.fields.get("orderId") == (changed.order.order_id if refund else None)
    assert ("orderLineId" in told.fields) is refund
    assert changed.order is None or changed.order.order_type == "UNSUBSCRIBE"


def test_license_1_0_is_released_under_the_purchase():
    life = Life("LICENSE_1_0")

    (told,) = life("refund").calls

    assert told.fields == {"orderId": life.order.order_id, "instanceId": "i-1"}


@pytest.mark.parametrize(
    ("life", "kind", "why"),
    [
        (Life("LICENSE_1_0"), "freeze", "no such change"),
        (Life("LICENSE_1_0"), "claim", "no such change"),
        (Life("GENERAL"), "renew", "no such change"),
        (Life("LICENSE_2_0", period_type=None), "renew", "bought for good"),
        (Life("LICENSE_1_0", period_type=None), "renew", "bought for good"),
        (Life("LICENSE_2_0"), "expire", "not in service"),
        (Life("LICENSE_2_0"), "claim", "has the code already"),
    ],
)
def test_a_change_that_there_is_none_of_is_refused(life, kind, why):
    with pytest.raises(NoSuchChange, match=why):
        life(kind)


def test_an_order_that_is_no_purchase_has_no_code_to_change():
    life = Life("LICENSE_2_0", order_type="RENEW")
    life.code = None

    for kind in CHANGES[DeliveryKind.LICENSE_2_0]:
        with pytest.raises(NoSuchChange, match="has no code"):
            life(kind)


@pytest.mark.parametrize("kind", [kind for kind in Change if kind is not Change.RENEW])
def test_terms_belong_to_renewals(kind):
    with pytest.raises(NoSuchChange, match=r"only a renewal|no such change"):
        Life("LICENSE_2_0")(kind, period_type="year")


# Over sockets.

REFRESH = {"activity", "expireTime", "license", "orderId", "orderLineId", "productId", "scene", "testFlag"}


async def buy(sandbox, dialect, **order):
    wanted = {"product_id": "OFFI1", "dialect": dialect, "notify": False, "period_type": "year", **order}
    response = await sandbox.http.post("/sandbox/orders", json=wanted)
    assert response.status_code == 201, response.text
    return response.json()


async def changed(sandbox, order, kind, **terms):
    return await sandbox.http.post(f"/sandbox/orders/{order['order_id']}/changes/{kind}", json=terms or None)


@pytest.mark.parametrize(
    ("dialect", "kind", "fields", "says", "order_type"),
    [
        ("LICENSE_2_0", "renew", REFRESH, {"scene": "RENEWAL"}, "RENEW"),
        ("LICENSE_2_0", "refund-renewal", REFRESH, {"scene": "UNSUBSCRIBE_RENEWAL_PERIOD"}, "UNSUBSCRIBE"),
        ("LICENSE_2_0", "freeze", {"activity", "license", "status", "testFlag"}, {"status": "FREEZE"}, None),
        ("LICENSE_2_0", "unfreeze", {"activity", "license", "status", "testFlag"}, {"status": "UNFREEZE"}, None),
        ("LICENSE_2_0", "release", {"activity", "license", "testFlag"}, {}, None),
        ("LICENSE_2_0", "refund", {"activity", "license", "orderId", "orderLineId", "testFlag"}, {}, "UNSUBSCRIBE"),
        ("LICENSE_1_0", "renew", {"activity", "orderId", "instanceId", "productId", "expireTime", "periodType", "periodNumber", "timeStamp", "authToken"}, {"activity": "refreshLicense"}, "RENEW"),
        ("LICENSE_1_0", "expire", {"activity", "orderId", "instanceId", "timeStamp", "authToken"}, {"activity": "expireLicense"}, None),
        ("LICENSE_1_0", "release", {"activity", "orderId", "instanceId", "timeStamp", "authToken"}, {"activity": "releaseLicense"}, None),
        ("LICENSE_1_0", "refund", {"activity", "orderId", "instanceId", "timeStamp", "authToken"}, {"activity": "releaseLicense"}, "UNSUBSCRIBE"),
    ],
)  # fmt: skip
async def test_each_change_makes_its_documented_call_and_its_order(
    paired, seller, dialect, kind, fields, says, order_type
):
    order = await buy(paired, dialect)
    if kind == "refund-renewal":
        await changed(paired, order, "renew")

    answer = (await changed(paired, order, kind)).json()

    (delivery,) = answer["deliveries"]
    assert (delivery["verdict"], delivery["status"]) == ("success", 200)
    if dialect == "LICENSE_2_0":
        sent = msgspec.json.decode(seller.bodies[-1])
        assert list(sent) == sorted(sent)
        assert b" " not in seller.bodies[-1]
        assert sent["license"] == order["license"]
    else:
        sent = dict(part.split("=", 1) for part in seller.queries[-1].split("&"))
    assert sent.keys() == fields
    assert says.items() <= sent.items()
    assert (answer["order"]["order_type"] if answer["order"] else None) == order_type
    if answer["order"]:
        assert answer["order"]["of"] == order["order_id"]
        shown = (await paired.http.get(f"/sandbox/orders/{answer['order']['order_id']}")).json()
        assert shown["order_type"] == order_type
        if dialect == "LICENSE_2_0":
            assert sent["orderId"] == shown["order_id"]
            assert [one["activity"] for one in shown["deliveries"]] == [sent["activity"]]


async def test_what_cannot_be_changed_is_a_conflict_and_changes_nothing(paired, seller):
    order = await buy(paired, "LICENSE_2_0")
    renewal = (await changed(paired, order, "renew")).json()["order"]
    before = dict(paired.state.orders), dict(paired.state.codes)

    refused = [
        await changed(paired, renewal, "renew"),
        await changed(paired, order, "expire"),
        await changed(paired, order, "freeze", period_type="year"),
    ]

    assert [response.status_code for response in refused] == [409] * 3
    assert order["order_id"] in refused[0].json()["detail"]
    assert (await changed(paired, order, "nonsense")).status_code == 404
    assert (await changed(paired, {"order_id": "CS0"}, "renew")).status_code == 404
    assert (dict(paired.state.orders), dict(paired.state.codes)) == before


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"period_number":0}', b'{"surplus":1}', b'{"period_type":"week"}'])
async def test_terms_that_are_none_are_400(paired, body):
    order = await buy(paired, "LICENSE_2_0")

    response = await paired.http.post(f"/sandbox/orders/{order['order_id']}/changes/renew", content=body)

    assert response.status_code == 400


async def test_a_change_that_nobody_could_hear_of_is_refused_before_it_is_made(sandbox):
    order = await buy(sandbox, "LICENSE_2_0")

    assert (await changed(sandbox, order, "freeze")).status_code == 409
    assert (await sandbox.http.get("/sandbox/codes")).json()["codes"][0]["frozen"] is False


async def test_the_identification_code_reaches_the_seller_and_order_query(paired, seller):
    from licensesvc.marketplace.huawei.extend_params import identification_code

    order = await buy(paired, "LICENSE_1_0", identification_code="MAC 00:1a/ü+=&")

    assert identification_code(seller.calls[0].saas_extend_params) == "MAC 00:1a/ü+=&"
    (param,) = order_info(paired.state.orders[order["order_id"]]).order_line[0].extend_params
    assert (param.name, param.value) == ("identificationCode", "MAC 00:1a/ü+=&")
    refused = await paired.http.post(
        "/sandbox/orders", json={"product_id": "O", "dialect": "LICENSE_2_0", "identification_code": "x"}
    )
    assert refused.status_code == 400
