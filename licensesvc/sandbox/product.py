"""A fake product: what a seller's software does against the marketplace, or against any host that speaks its API.

In: the compatible calls, signed with AK/SK (spec §§1.3, 1.4, 3), and the native ones. Out: keeping receipts, obeying them.
"""

import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx2
import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.marketplace.huawei import aksk
from licensesvc.sandbox.clock import wall_clock

ANSWER_SECONDS: Final = 10.0

_OPEN_API: Final = "/api/mkp-openapi-public/global/v1/license"


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
            verify=ssl.create_default_context(), timeout=ANSWER_SECONDS, follow_redirects=False, trust_env=False
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
        return await self._signed_post(f"{_OPEN_API}/activate", fields)

    async def heartbeat(self, code: str) -> dict[str, Any]:
        """Ask for status and expiry, as on the first use of each day (spec §1.4)."""
        return await self._signed_post(f"{_OPEN_API}/heartbeat", {"license": code})

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

    async def _signed_post(self, path: str, fields: dict[str, str]) -> dict[str, Any]:
        url = httpx2.URL(self._base_url + path)
        body = msgspec.json.encode(fields)
        headers = [
            ("Host", url.netloc.decode("ascii")),
            ("X-Sdk-Date", aksk.sdk_date(self._clock())),
            ("Content-Type", "application/json"),
        ]
        authorization = aksk.sign(
            method="POST",
            path=url.raw_path.decode("ascii"),
            query="",
            headers=headers,
            body=body,
            access_key=self._access_key,
            secret_key=self._secret_key,
        )
        return _parsed(await self._http.post(url, content=body, headers=[*headers, ("Authorization", authorization)]))

    async def _call(self, method: str, path: str, fields: dict[str, str] | None) -> dict[str, Any]:
        return _parsed(await self._http.request(method, self._base_url + path, json=fields))


def _parsed(response: httpx2.Response) -> dict[str, Any]:
    return msgspec.json.decode(response.content, type=dict[str, Any]) if response.content else {}
