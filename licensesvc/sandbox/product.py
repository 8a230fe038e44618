"""A fake product: what a seller's software does against the marketplace, or against any host that speaks its API.

In: the compatible calls, signed with AK/SK (spec §§1.3-1.6, 3), and the native ones. Out: keeping receipts, obeying them.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import httpx2
import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.marketplace.huawei import aksk
from licensesvc.outbound.trust import system_trust
from licensesvc.sandbox.clock import wall_clock

ANSWER_SECONDS: Final = 10.0

_OPEN_API: Final = "/api/mkp-openapi-public/global"


class Product:
    """An installed program with the AK/SK that its maker put into it; use as an async context manager.

    `base_url` is scheme, host and port. Every call returns the body as parsed, that of a refusal too ({} for none);
    `httpx2.HTTPError` when no answer came, `ValueError` when it is no JSON object.
    """

    def __init__(
        self, base_url: str, access_key: str, secret_key: str, *, clock: Callable[[], Instant] = wall_clock
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._access_key = access_key
        self._secret_key = secret_key
        self._clock = clock
        self._http = httpx2.AsyncClient(
            verify=system_trust(), timeout=ANSWER_SECONDS, follow_redirects=False, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def activate(self, code: str, real_effect_time: str | None = None) -> dict[str, Any]:
        """Put the license into service, from now or from a UTC stamp `yyyyMMddHHmmss` on (spec §1.3)."""
        fields = {"license": code}
        if real_effect_time is not None:
            fields["real_effect_time"] = real_effect_time
        return await self._signed_post(f"{_OPEN_API}/v1/license/activate", fields)

    async def heartbeat(self, code: str) -> dict[str, Any]:
        """Ask for status and expiry, as on the first use of each day (spec §1.4)."""
        return await self._signed_post(f"{_OPEN_API}/v1/license/heartbeat", {"license": code})

    async def activate_all(self, codes: Sequence[str], real_effect_time: str | None = None) -> dict[str, Any]:
        """Put up to 100 licenses into service, all or none (spec §1.3)."""
        fields: dict[str, Any] = {"license_list": codes}
        if real_effect_time is not None:
            fields["real_effect_time"] = real_effect_time
        return await self._signed_post(f"{_OPEN_API}/v2/license/activate", fields)

    async def query_all(self, codes: Sequence[str]) -> dict[str, Any]:
        """Ask for up to 100 licenses (spec §1.4)."""
        return await self._signed_post(f"{_OPEN_API}/v2/license/heartbeat", {"license_list": codes})

    async def report_usage(self, reports: Mapping[str, Sequence[str] | int]) -> dict[str, Any]:
        """Report, by license code, which clients use the software today, or how many (spec §1.5)."""
        usage_info = [
            {
                "license": code,
                "software_usage_Info": [{"active_num": said}]
                if isinstance(said, int)
                else [{"id": id_} for id_ in said],
            }
            for code, said in reports.items()
        ]
        return await self._signed_post(f"{_OPEN_API}/v2/license/software-usage-info", {"usage_info": usage_info})

    async def query_order(self, order_id: str, order_line_id: str | None = None) -> dict[str, Any]:
        """Ask for an order, or one line of it, with the AK/SK of the seller (spec §1.6)."""
        names = {"orderId": order_id} if order_line_id is None else {"orderId": order_id, "orderLineId": order_line_id}
        query = urlencode(names, quote_via=quote)
        return await self._signed("GET", f"{_OPEN_API}/v1/order/query?{query}", b"", [])

    async def document(self, code: str) -> dict[str, Any]:
        """Fetch the signed licence: license_id, revision, kid, document."""
        return await self._call("POST", "/v1/licenses/document", {"code": code})

    async def validate(self, code: str, nonce: str, fingerprint: str | None = None) -> dict[str, Any]:
        """Ask whether the license may be used now: valid, code, status, receipt."""
        fields = {"code": code, "nonce": nonce}
        if fingerprint is not None:
            fields["fingerprint"] = fingerprint
        return await self._call("POST", "/v1/licenses/validate", fields)

    async def take_seat(self, code: str, fingerprint: str) -> dict[str, Any]:
        """Take a seat for this device: activation_id among others."""
        return await self._call("POST", "/v1/activations", {"code": code, "fingerprint": fingerprint})

    async def give_back(self, activation_id: str) -> dict[str, Any]:
        """Give a seat back; {} when it is free again."""
        return await self._call("DELETE", f"/v1/activations/{quote(activation_id, safe='')}", None)

    async def _signed_post(self, path: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        return await self._signed("POST", path, msgspec.json.encode(fields), [("Content-Type", "application/json")])

    async def _signed(self, method: str, path: str, body: bytes, more: list[tuple[str, str]]) -> dict[str, Any]:
        url = httpx2.URL(self._base_url + path)
        headers = [("Host", url.netloc.decode("ascii")), ("X-Sdk-Date", aksk.sdk_date(self._clock())), *more]
        raw_path, _, query = url.raw_path.decode("ascii").partition("?")
        authorization = aksk.sign(
            method=method,
            path=raw_path,
            query=query,
            headers=headers,
            body=body,
            access_key=self._access_key,
            secret_key=self._secret_key,
        )
        signed = [*headers, ("Authorization", authorization)]
        return _parsed(await self._http.request(method, url, content=body or None, headers=signed))

    async def _call(self, method: str, path: str, fields: dict[str, str] | None) -> dict[str, Any]:
        return _parsed(await self._http.request(method, self._base_url + path, json=fields))


def _parsed(response: httpx2.Response) -> dict[str, Any]:
    return msgspec.json.decode(response.content, type=dict[str, Any]) if response.content else {}
