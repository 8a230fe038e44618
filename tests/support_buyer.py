"""Cases with a buyer's link, driven over the admin API, standing where a test wants them."""

import re
from dataclasses import dataclass
from typing import Any

from tests.support_web import Site, make_catalog, make_order

PDF = b"%PDF-1.7 a proof"
PNG = b"\x89PNG\r\n\x1a\n..."
OLD_ORDER = "2024-12-01T00:00:00Z"
"""An order from the time when buyers claimed their codes."""


@dataclass(frozen=True, kw_only=True)
class Linked:
    """A case with the path of its page."""

    site: Site
    case: str
    page: str
    link: str

    async def detail(self) -> dict[str, Any]:
        return (await self.site.reader.get(self.case)).json()

    async def record(self, event: str, **more: Any) -> dict[str, Any]:
        response = await self.site.operator.post(f"{self.case}/events", json={"event": event, **more})
        assert response.status_code == 201, response.text
        return response.json()

    async def upload(self, filename: str = "验收.pdf") -> dict[str, Any]:
        response = await self.site.operator.post(
            f"{self.case}/proofs",
            content=PDF,
            params={"kind": "acceptance", "filename": filename},
            headers={"content-type": "application/pdf"},
        )
        assert response.status_code == 201, response.text
        return response.json()

    async def send(self, action: str, version: int | None = None, files: Any = None, **fields: str) -> Any:
        """Post a form as the page's question does."""
        shown = (await self.detail())["version"] if version is None else version
        data = {"action": action, "version": str(shown), "lang": "en", **fields}
        return await self.site.stranger.post(f"{self.page}?lang=en", data=data, files=files)


async def open_linked(site: Site, kind: str, *, order_id: str = "CS123", days: int = 30, **line: Any) -> Linked:
    """A new case and a link to its page."""
    code = {"license_code": "PL-1"} if kind == "LICENSE_2_0" else {}
    catalog = await make_catalog(site, delivery_kind=kind)
    order = await make_order(site, catalog, order_id, **code, **line)
    case = f"/admin/v1/supervision-cases/{order['lines'][0]['case']}"
    return await link_to(site, case, days=days)


async def link_to(site: Site, case: str, *, days: int = 30) -> Linked:
    """A link to the page of a case."""
    response = await site.operator.post(f"{case}/buyer-links", json={"days": days})
    assert response.status_code == 201, response.text
    page = re.sub(r"^https?://[^/]+", "", response.json()["url"])
    return Linked(site=site, case=case, page=page, link=f"/admin/v1/buyer-links/{response.json()['id']}")


async def claiming(site: Site, **more: Any) -> Linked:
    """A case whose buyer must claim the code."""
    linked = await open_linked(site, "LICENSE_2_0", **more)
    await set_flow(site, linked.case, "license-2.0-2024-09")
    await linked.record("delivered", actor="seller")
    return linked


async def confirming(site: Site, kind: str = "LICENSE_1_0", **more: Any) -> Linked:
    """A case whose buyer must accept."""
    linked = await open_linked(site, kind, **more)
    await linked.record("delivered", actor="seller")
    await linked.record("activated", actor="software")
    await linked.upload()
    return linked


async def set_flow(site: Site, case: str, flow: str) -> None:
    """Orders entered by hand are of now; an old one has this flow from the beginning."""
    public_id = case.rsplit("/", 1)[1]
    await site.rt.db.write(
        lambda tx: tx.run("UPDATE supervision_cases SET flow = $2 WHERE public_id = $1", public_id, flow)
    )
