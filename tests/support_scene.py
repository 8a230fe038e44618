"""Cases of one seller, each where somebody is about to act, and the requests by which they act: as they are sent, over HTTP.

In: the cases (order CS1 is proven, CS2 accepted by its buyer only, CS3 accepted, CS4 about to be completed by the clock, CS5 asks for a refund,
CS6 has a learned code, CS7 an instance), what each side sends. Out: what comes of it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec

from licensesvc.domain.instants import HOUR, MINUTE, SECOND, rfc3339
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.supervision_clock import SupervisionClock
from licensesvc.services.webhooks.feed_webhooks import feed_webhooks
from licensesvc.services.webhooks.manage_webhooks import CreateEndpoint, create_endpoint
from tests.support_buyer import Linked, link_to
from tests.support_calls import CODE, Sender
from tests.support_edges import Shop, open_shop
from tests.support_web import START, Clock, Site
from tests.support_webhooks import LOOPBACK

ASKED_AT = START + 30 * SECOND
"""When everybody acts but the clock."""
RIPE_AT = START + 2 * MINUTE
"""When the clock completes CS4; nothing else is due by then."""
HOOK = "http://127.0.0.1:40000/hook"
"""Whoever starts a server puts the URL of a receiver in its place."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request; `options` as `httpx2` takes them."""

    method: str = "POST"
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Place:
    """The ids of one order line; `version` is that of its case when nobody has acted yet."""

    case: str
    line: str
    license: str
    page: str
    version: int


class Scene:
    """What everybody needs to act: `places` by order id."""

    def __init__(self, site: Site, shop: Shop) -> None:
        self.rt: Runtime = site.rt
        self.places: dict[str, Place] = {}
        self._site, self._shop = site, shop
        self._sender = Sender(SimpleNamespace(clock=Clock(ASKED_AT)), shop)
        self._bearer = {"authorization": f"Bearer {site.tokens['operator']}"}

    async def sell(self, order: str, shop: Shop | None = None, **facts: Any) -> Linked:
        """A new case, with a link for its buyer."""
        received = await (shop or self._shop).sell(order, **facts)
        linked = await link_to(self._site, f"/admin/v1/supervision-cases/{received.case.public_id}")
        self.places[order] = Place(
            case=received.case.public_id,
            line=received.line.public_id,
            license=received.license.view.public_id,
            page=linked.page,
            version=0,
        )
        return linked

    async def prove(self, order: str) -> Linked:
        """A case whose buyer must accept."""
        linked = await self.sell(order)
        await linked.record("delivered", actor="seller")
        await linked.record("activated", actor="software")
        await linked.upload()
        return linked

    async def put_price(self, order: str, amount: int) -> None:
        """What an order costs, in hundredths."""
        told = {"currency": "CNY", "price": amount, "reason": "as the list says"}
        line = self.places[order].line
        answer = await self._site.operator.put(f"/admin/v1/settlement/lines/{line}/price", json=told)
        assert answer.status_code == 200, answer.text

    async def rest(self) -> None:
        """Let the clock and the feed of webhooks look until nothing is left for them; then everybody has seen where it stands."""
        while await SupervisionClock(self.rt).look():
            pass
        while (await feed_webhooks(self.rt)).more:
            pass
        for order, place in self.places.items():
            seen = (await self._site.reader.get(f"/admin/v1/supervision-cases/{place.case}")).json()
            self.places[order] = Place(**{**vars(place), "version": seen["version"]})

    def records(self, order: str, **event: Any) -> Request:
        """An operator records something, under a key."""
        return self._keyed(f"/admin/v1/supervision-cases/{self.places[order].case}/events", event)

    def confirms(self, order: str, **event: Any) -> Request:
        """An operator confirms something, under a key."""
        return self._keyed(f"/admin/v1/supervision-cases/{self.places[order].case}/confirmations", event)

    def gives_back(self, order: str, amount: int) -> Request:
        """An operator enters what the buyer got back, under a key."""
        known = {"line": self.places[order].line, "reference": "R1", "kind": "refund", "currency": "CNY"}
        return self._keyed("/admin/v1/settlement/transactions", {**known, "amount": amount, "at": rfc3339(START)})

    def imports(self, *rows: str) -> Request:
        """An operator imports a file of confirmations."""
        path = f"/admin/v1/imports/confirmations?connection={self._shop.connection.public_id}&dry_run=false"
        headers = {**self._bearer, "content-type": "text/csv"}
        return Request(path=path, options={"content": "\n".join(rows).encode(), "headers": headers})

    def clicks(self, order: str, action: str, files: Any = None, **fields: str) -> Request:
        """A buyer sends the form of the page, as it was seen."""
        place = self.places[order]
        data = {"action": action, "version": str(place.version), "lang": "en", **fields}
        return Request(path=f"{place.page}?lang=en", options={"data": data, "files": files})

    def calls(self, **fields: str) -> Request:
        """The marketplace makes a License 2.0 call, signed anew each time."""
        body = json.dumps(fields).encode()
        headers = {"content-type": "application/json"}
        return Request(path=self._sender.target(body), options={"content": body, "headers": headers})

    def calls_by_url(self, activity: str, **fields: str) -> Request:
        """The marketplace makes a License 1.0 call."""
        return Request(method="GET", path=self._sender.v1_target(activity, **fields))

    def _keyed(self, path: str, body: Any) -> Request:
        return Request(path=path, options={"json": body, "headers": {**self._bearer, "idempotency-key": "once"}})


async def make_scene(site: Site) -> Scene:
    """Bring every case where it stands, and an endpoint of webhooks that is told of everything from now on."""
    shop = await open_shop(site.rt)
    two = await open_shop(
        site.rt, name="two", sold="OFFI200", kind=DeliveryKind.LICENSE_2_0, connection=shop.connection
    )
    scene = Scene(site, shop)
    await scene.prove("CS1")
    await (await scene.prove("CS2")).send("accept")
    await (await scene.prove("CS3")).record("accepted")
    await (await scene.prove("CS4")).record("accepted", at=rfc3339(RIPE_AT - 3 * HOUR))
    asked = await scene.prove("CS5")
    await asked.record("refund_asked", actor="buyer", amount=2_500, paid=10_000, reason="a quarter does not work")
    await scene.sell("CS6", two, code=CODE)
    await scene.sell("CS7", instance_id="biz-1")
    await scene.put_price("CS3", 10_000)
    await scene.rest()
    endpoint = msgspec.convert({"url": HOOK}, CreateEndpoint)
    await site.rt.db.write(lambda tx: create_endpoint(tx, site.rt, LOOPBACK, endpoint, by="test"))
    await scene.rest()
    return scene
