"""Every admin route × every role; a route that is missing from the table fails."""

from typing import Any

import msgspec
import pytest
from litestar import Litestar, get
from litestar.routes import HTTPRoute

from licensesvc.domain.reconciliation import Difference, FindingKind
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.services.interface_messages import Callback, kept_callback
from licensesvc.services.orders.notify_order import OrderQuery
from licensesvc.services.restarts.retry_outbox import public_id
from licensesvc.signing.keyset import KeyStatus
from licensesvc.storage import messages, outbox, reconciliation
from tests.support_web import Site, created, make_app, make_catalog, make_order

READER, OPERATOR, OWNER = "reader", "operator", "owner"

ROUTES: dict[tuple[str, str], str] = {
    ("POST", "/connections"): OWNER,
    ("GET", "/connections"): READER,
    ("GET", "/connections/{connection_id:str}"): READER,
    ("PATCH", "/connections/{connection_id:str}"): OWNER,
    ("POST", "/policies"): OWNER,
    ("GET", "/policies"): READER,
    ("GET", "/policies/{policy_id:str}"): READER,
    ("POST", "/products"): OWNER,
    ("GET", "/products"): READER,
    ("GET", "/products/{product_id:str}"): READER,
    ("GET", "/products/{product_id:str}/usage"): READER,
    ("GET", "/products/{product_id:str}/acceptance-standard"): READER,
    ("PUT", "/products/{product_id:str}/acceptance-standard"): OWNER,
    ("POST", "/orders"): OPERATOR,
    ("GET", "/orders"): READER,
    ("GET", "/orders/{our_id:str}"): READER,
    ("GET", "/licenses"): READER,
    ("GET", "/licenses/{license_id:str}"): READER,
    ("GET", "/licenses/{license_id:str}/code"): OPERATOR,
    ("GET", "/licenses/{license_id:str}/activations"): READER,
    ("GET", "/licenses/{license_id:str}/usage"): READER,
    ("POST", "/licenses/{license_id:str}/suspend"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/reinstate"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/revoke"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/renew"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/move-expiry"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/change-quantity"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/replace-code"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/free-seat"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/reset-activation"): OPERATOR,
    ("POST", "/licenses/{license_id:str}/send-code"): OPERATOR,
    ("POST", "/credentials"): OWNER,
    ("GET", "/credentials"): READER,
    ("DELETE", "/credentials/{credential_id:str}"): OWNER,
    ("GET", "/supervision-cases"): READER,
    ("GET", "/supervision-cases/{case_id:str}"): READER,
    ("POST", "/supervision-cases/{case_id:str}/events"): OPERATOR,
    ("POST", "/supervision-cases/{case_id:str}/proofs"): OPERATOR,
    ("GET", "/proofs/{proof_id:str}"): OPERATOR,
    ("POST", "/supervision-cases/{case_id:str}/buyer-links"): OPERATOR,
    ("POST", "/supervision-cases/{case_id:str}/buyer-links/mail"): OPERATOR,
    ("GET", "/supervision-cases/{case_id:str}/buyer-links"): READER,
    ("DELETE", "/buyer-links/{link_id:str}"): OPERATOR,
    ("GET", "/supervision-cases/{case_id:str}/delivery-pack"): OPERATOR,
    ("POST", "/supervision-cases/{case_id:str}/confirmations"): OPERATOR,
    ("GET", "/supervision-cases/{case_id:str}/buyer-code"): OPERATOR,
    ("POST", "/supervision-cases/bulk"): OPERATOR,
    ("POST", "/imports/confirmations"): OPERATOR,
    ("GET", "/messages"): READER,
    ("GET", "/messages/{message_id:str}"): READER,
    ("POST", "/messages/{message_id:str}/restart"): OPERATOR,
    ("POST", "/messages/restart"): OPERATOR,
    ("GET", "/outbox"): READER,
    ("POST", "/outbox/{item_id:str}/retry"): OPERATOR,
    ("GET", "/reconciliation/findings"): READER,
    ("POST", "/reconciliation/findings/{finding_id:str}/repair"): OPERATOR,
    ("POST", "/reconciliation/findings/{finding_id:str}/dismiss"): OPERATOR,
    ("GET", "/reconciliation/runs"): READER,
    ("POST", "/reconciliation/runs"): OPERATOR,
    ("POST", "/tokens"): OWNER,
    ("GET", "/tokens"): OWNER,
    ("DELETE", "/tokens/{token_id:str}"): OWNER,
    ("POST", "/imports"): OPERATOR,
    ("GET", "/exports/licenses"): READER,
    ("GET", "/exports/orders"): READER,
    ("GET", "/exports/cases"): READER,
    ("GET", "/audit-events"): READER,
    ("GET", "/audit/verification"): READER,
    ("GET", "/statistics"): READER,
    ("GET", "/keys"): READER,
    ("POST", "/keys/rotate"): OWNER,
    ("POST", "/keys/{kid:str}/compromise"): OWNER,
    ("GET", "/vault-keys"): OWNER,
    ("POST", "/vault-keys/rotate"): OWNER,
    ("GET", "/buyers"): OPERATOR,
    ("POST", "/buyers/{buyer_id:str}/erase"): OWNER,
    ("POST", "/prune"): OWNER,
    ("GET", "/delisting-guard"): READER,
    ("GET", "/delisting-guard/{connection_id:str}"): READER,
    ("PUT", "/delisting-guard/{connection_id:str}/failed-orders"): OPERATOR,
    ("PUT", "/delisting-guard/{connection_id:str}/on-sale"): OPERATOR,
    ("GET", "/alerts"): READER,
    ("GET", "/alerts/{alert_id:str}"): READER,
    ("POST", "/alerts/{alert_id:str}/acknowledge"): OPERATOR,
    ("POST", "/alert-channels"): OWNER,
    ("GET", "/alert-channels"): OPERATOR,
    ("GET", "/alert-channels/{channel_id:str}"): OPERATOR,
    ("PATCH", "/alert-channels/{channel_id:str}"): OWNER,
    ("POST", "/alert-channels/{channel_id:str}/test"): OPERATOR,
    ("DELETE", "/alert-channels/{channel_id:str}"): OWNER,
    ("GET", "/settlement/lines"): READER,
    ("GET", "/settlement/totals"): READER,
    ("PUT", "/settlement/lines/{line_ref:str}/price"): OPERATOR,
    ("POST", "/settlement/transactions"): OPERATOR,
    ("GET", "/settlement/transactions"): READER,
    ("GET", "/exports/settlement"): READER,
    ("POST", "/imports/transactions"): OPERATOR,
    ("PUT", "/products/{product_id:str}/sales-model"): OWNER,
    ("POST", "/agreements"): OWNER,
    ("GET", "/agreements"): READER,
    ("POST", "/agreement-acceptances"): OPERATOR,
    ("GET", "/agreement-acceptances"): READER,
    ("GET", "/supervision-due"): READER,
    ("POST", "/webhook-endpoints"): OWNER,
    ("GET", "/webhook-endpoints"): READER,
    ("GET", "/webhook-endpoints/{endpoint_id:str}"): READER,
    ("PATCH", "/webhook-endpoints/{endpoint_id:str}"): OWNER,
    ("GET", "/webhook-endpoints/{endpoint_id:str}/deliveries"): READER,
    ("POST", "/webhook-endpoints/{endpoint_id:str}/test"): OPERATOR,
    ("POST", "/webhook-endpoints/{endpoint_id:str}/replay"): OPERATOR,
    ("POST", "/webhook-deliveries/{delivery_id:str}/replay"): OPERATOR,
    ("POST", "/webhook-endpoints/{endpoint_id:str}/rotate-secret"): OWNER,
    ("POST", "/webhook-endpoints/{endpoint_id:str}/disable"): OPERATOR,
    ("POST", "/webhook-endpoints/{endpoint_id:str}/enable"): OPERATOR,
    ("DELETE", "/webhook-endpoints/{endpoint_id:str}"): OWNER,
}
RANK = [READER, OPERATOR, OWNER]
MISSING = "x" * 3 + "_" + "0" * 26


def concrete(path: str, public_id: str = MISSING) -> str:
    head, brace, tail = path.partition("{")
    return f"/admin/v1{head}" + (public_id + tail.partition("}")[2] if brace else "")


def served(app: Litestar) -> set[tuple[str, str]]:
    return {
        (method, route.path.removeprefix("/admin/v1"))
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/admin/")
        for method in route.methods - {"OPTIONS"}
    }


def test_the_table_has_every_route(site: Site):
    assert served(site.app) == set(ROUTES)


def test_the_control_a_route_that_the_table_lacks_is_seen(site: Site):
    @get("/admin/v1/forgotten")
    async def forgotten() -> None: ...

    assert served(make_app(site.rt, more=[forgotten])) - set(ROUTES) == {("GET", "/forgotten")}


async def test_each_role_reaches_what_the_table_says_and_nothing_else(site: Site):
    for (method, path), needed in ROUTES.items():
        for role in RANK:
            response = await getattr(site, role).request(method, concrete(path))
            if RANK.index(role) < RANK.index(needed):
                assert (response.status_code, response.json()["code"]) == (403, "FORBIDDEN"), (method, path, role)
            else:
                assert response.status_code in {200, 201, 400, 404, 428}, (method, path, role, response.text)


async def test_without_a_token_nothing_is_told_and_nothing_is_read(site: Site):
    for method, path in ROUTES:
        response = await site.stranger.request(method, concrete(path), content=b"{" * 1_000_000)
        assert (response.status_code, response.json()["code"]) == (401, "UNAUTHENTICATED"), (method, path)
        assert response.headers["www-authenticate"].startswith("Bearer")


WHY = {"reason": "ticket 4711"}
BODIES: dict[str, dict[str, object]] = {
    "/connections/{connection_id:str}": {"name": "other"},
    "/supervision-cases/{case_id:str}/events": {"event": "delivered"},
    "/supervision-cases/{case_id:str}/confirmations": {"event": "delivered"},
    "/products/{product_id:str}/acceptance-standard": {"proofs": ["acceptance"]},
    "/supervision-cases/{case_id:str}/buyer-links": {"days": 30},
    "/supervision-cases/{case_id:str}/buyer-links/mail": {"days": 30},
    "/licenses/{license_id:str}/suspend": WHY,
    "/licenses/{license_id:str}/reinstate": WHY,
    "/licenses/{license_id:str}/renew": {**WHY, "period": {"unit": "YEAR", "count": 1}},
    "/licenses/{license_id:str}/move-expiry": {**WHY, "expires_at": "2030-01-01T00:00:00Z"},
    "/licenses/{license_id:str}/change-quantity": {**WHY, "quantity": 3},
    "/licenses/{license_id:str}/replace-code": WHY,
    "/licenses/{license_id:str}/free-seat": WHY,
    "/licenses/{license_id:str}/reset-activation": {**WHY, "fingerprint": "machine-1"},
    "/licenses/{license_id:str}/send-code": WHY,
    "/licenses/{license_id:str}/revoke": WHY,
    "/messages/{message_id:str}/restart": {**WHY, "without_asking": True},
    "/outbox/{item_id:str}/retry": WHY,
    "/reconciliation/findings/{finding_id:str}/repair": WHY,
    "/reconciliation/findings/{finding_id:str}/dismiss": WHY,
    "/keys/{kid:str}/compromise": WHY,
    "/buyers/{buyer_id:str}/erase": WHY,
    "/delisting-guard/{connection_id:str}/failed-orders": {"month": "2026-11", "failed_orders": 5},
    "/delisting-guard/{connection_id:str}/on-sale": {"on_sale": "yes"},
    "/alert-channels/{channel_id:str}": {"least_level": "critical"},
    "/settlement/lines/{line_ref:str}/price": {**WHY, "currency": "CNY", "price": 100},
    "/products/{product_id:str}/sales-model": {**WHY, "sales_model": "joint"},
    "/webhook-endpoints/{endpoint_id:str}": {"description": "other"},
    "/webhook-endpoints/{endpoint_id:str}/test": {},
    "/webhook-endpoints/{endpoint_id:str}/replay": {"since": "2026-01-01T00:00:00Z"},
    "/webhook-deliveries/{delivery_id:str}/replay": {},
    "/webhook-endpoints/{endpoint_id:str}/rotate-secret": {},
    "/webhook-endpoints/{endpoint_id:str}/disable": {},
    "/webhook-endpoints/{endpoint_id:str}/enable": {},
}
"""A body that is right, for each route about one record that takes one."""


async def records(site: Site) -> dict[str, str]:
    """One record of each kind that a path may name, by the name of its parameter."""
    catalog = await make_catalog(site)
    order = await make_order(site, catalog)
    await site.owner.post(
        "/admin/v1/orders",
        json={
            "connection": catalog["connection"],
            "order_id": "CS124",
            "lines": [{"product": catalog["product"]}],
            "buyer": {"customer_id": "c1"},
        },
    )
    (buyer,) = (await site.owner.get("/admin/v1/buyers")).json()["items"]
    channel = await created(site, "alert-channels", {"name": "ops", "kind": "mail", "address": "ops@seller.example"})
    await site.owner.put(
        f"/admin/v1/delisting-guard/{catalog['connection']}/failed-orders",
        json={"month": "2026-11", "failed_orders": 4},
    )
    await DelistingWatch(site.rt).look()
    (alert,) = (await site.owner.get("/admin/v1/alerts")).json()["items"]
    following = next(key.kid for key in site.rt.signer.keyset.keys if key.status is KeyStatus.NEXT)
    token = await created(site, "tokens", {"name": "temporary", "role": "reader"})
    credential = await created(
        site, "credentials", {"connection": catalog["connection"], "scope": "seller", "name": "x"}
    )
    case = f"/admin/v1/supervision-cases/{order['lines'][0]['case']}"
    await site.owner.post(f"{case}/events", json={"event": "activated"})
    upload = {"content": b"%PDF-1.7", "headers": {"content-type": "application/pdf"}}
    uploaded = await site.owner.post(f"{case}/proofs", params={"kind": "other", "filename": "a.pdf"}, **upload)
    endpoint = await created(site, "webhook-endpoints", {"url": "https://hooks.example/"})
    delivery = await created(site, f"webhook-endpoints/{endpoint['id']}/test", {})
    link = await site.owner.post(f"{case}/buyer-links", json={"days": 30})
    return {
        "link_id": link.json()["id"],
        "proof_id": uploaded.json()["proofs"][0]["id"],
        "connection_id": catalog["connection"],
        "policy_id": catalog["policy"],
        "product_id": catalog["product"],
        "our_id": order["id"],
        "license_id": order["lines"][0]["license"],
        "case_id": order["lines"][0]["case"],
        "line_ref": order["lines"][0]["id"],
        "credential_id": credential["id"],
        "token_id": token["id"],
        "buyer_id": buyer["id"],
        **await undone(site, catalog["connection"]),
        "kid": following,
        "channel_id": channel["id"],
        "alert_id": alert["id"],
        "endpoint_id": endpoint["id"],
        "delivery_id": delivery["id"],
    }


async def undone(site: Site, connection: str) -> dict[str, str]:
    """A message that failed, work that was given up, a difference that was found."""
    query = msgspec.json.encode(OrderQuery(connection=connection, order_id="CS9", order_line_id=None)).decode()
    difference = Difference(kind=FindingKind.UNKNOWN_THERE, ours="NEW", theirs="MKT.0150")
    finding = f"fnd_{'1' * 26}"

    async def add(tx: Any) -> None:
        await outbox.add(tx, kind="order_query", subject="CS9", payload=query, now=0)
        await outbox.give_up(tx, 1, now=0, error="x")
        await reconciliation.add(tx, 1, "CS9", difference, finding, 0)

    await site.rt.db.write(add)
    message = f"msg_{'1' * 26}"
    failed = Callback(
        connection_id=1,
        activity="getLicense",
        order_id="CS9",
        authenticated_at=0,
        received_at=0,
        request="{}",
        response="{}",
        outcome="000005",
        detail=None,
        address=None,
        raw=b"activity=getLicense&orderId=CS9",
    )
    await site.rt.db.write(lambda tx: messages.insert(tx, kept_callback(site.rt, failed, public_id=message)))
    return {"message_id": message, "item_id": public_id(1), "finding_id": finding}


async def about(site: Site, role: str, method: str, path: str, public_id: str) -> tuple[int, str]:
    """Status and code of a request that is right but for the record that it is about."""
    request: dict[str, object] = {"headers": {"if-match": '"1"'}}
    if path.endswith("/proofs"):
        request |= {"content": b"%PDF-1.7", "headers": {"content-type": "application/pdf"}}
        request["params"] = {"kind": "other", "filename": "a.pdf"}
    elif path in BODIES and method != "GET":
        request["json"] = BODIES[path]
    response = await getattr(site, role).request(method, concrete(path, public_id), **request)
    is_json = "json" in response.headers.get("content-type", "")
    return response.status_code, response.json().get("code", "") if is_json else ""


@pytest.mark.parametrize("whose", ["own", "foreign", "missing"])
async def test_every_route_about_a_record_by_every_role_and_whose_the_record_is(site: Site, whose: str):
    own = await records(site)
    for (method, path), needed in ROUTES.items():
        if "{" not in path:
            continue
        kind = path.partition("{")[2].partition(":")[0]
        foreign = own["policy_id" if kind != "policy_id" else "license_id"]
        missing = MISSING
        if kind == "kid":  # the thumbprint of another installation's key, and of none
            foreign, missing = "f" * 43, "m" * 43
        public_id = {"own": own[kind], "foreign": foreign, "missing": missing}[whose]
        for role in RANK:
            status, code = await about(site, role, method, path, public_id)
            if RANK.index(role) < RANK.index(needed):
                assert (status, code) == (403, "FORBIDDEN"), (method, path, role)
            elif whose == "own":
                # A second change of the same record meets its own ETag, a seat that nobody took is none,
                # and this buyer submitted no code.
                nothing_there = code == "ACTIVATION_NOT_FOUND" or path.endswith("/buyer-code")
                assert status in {200, 201, 204, 409, 412} or nothing_there, (path, code)
            else:
                no_mail = path.endswith(("/send-code", "/buyer-links/mail")) and code == "MAIL_NOT_CONFIGURED"
                assert (status, code) == (404, "NOT_FOUND") or no_mail, (method, path, role)


def test_every_route_about_a_record_that_takes_a_body_has_one_here():
    taking = {path for method, path in ROUTES if "{" in path and method in {"POST", "PATCH", "PUT"}}
    without = {
        "/supervision-cases/{case_id:str}/proofs",
        "/alerts/{alert_id:str}/acknowledge",
        "/alert-channels/{channel_id:str}/test",
    }

    assert taking - without == set(BODIES)
