"""Runs the debugging suite against a seller's production URL, whoever wrote what answers there.

In: sending each case of `check_cases` as the marketplace would, and judging the answer. Out: which cases there are, how results are shown.
Bounded: one call after another, `ANSWER_SECONDS` each from the first byte to the last, and no more of them once nobody answers.
"""

import asyncio
import json
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlencode

import httpx2
import msgspec

from licensesvc.domain.instants import HOUR, MINUTE, SECOND, Instant, to_datetime
from licensesvc.marketplace.huawei.signature_v1 import BODY_SIGN_HEADER, auth_token, check_body_sign
from licensesvc.marketplace.huawei.signature_v2 import sign_url
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.outbound.trust import system_trust
from licensesvc.sandbox.check_cases import Case, Dialect, Misdeed
from licensesvc.sandbox.clock import wall_clock
from licensesvc.strictjson import decode_object

ANSWER_SECONDS: Final = 5.0
"""The marketplace waits no longer (spec §2.0)."""
MAX_ANSWER_BYTES: Final = 64 * 1024
SHOWN_CHARACTERS: Final = 300
MAX_UNANSWERED: Final = 5
"""In a row; the cases after them are not tried."""

_HTTP_OK: Final = 200
_MASK: Final = "***"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one case went: what was sent and came (secrets masked), in `ms` milliseconds, and what to do about it where it failed."""

    name: str
    section: str
    passed: bool
    counts: bool
    expected: str
    verdict: str
    sent: str
    status: int | None
    answer: str
    ms: int
    advice: str | None


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    method: str
    query: str
    body: bytes
    shown: str


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class _Wrong(Exception):
    """The answer does not pass; the text says why."""


class Checker:
    """Sends cases to one URL; an async context manager. `access_key` is the key of the seller center (Key值)."""

    def __init__(
        self,
        url: str,
        access_key: str,
        *,
        values: Mapping[str, str] | None = None,
        clock: Callable[[], Instant] = wall_clock,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._access_key = access_key
        self._values = values or {}
        self._clock = clock
        self._answered: dict[str, bytes] = {}
        self._http = httpx2.AsyncClient(
            verify=tls or system_trust(),
            timeout=None,
            follow_redirects=False,
            trust_env=False,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def run(self, suite: Iterable[Case]) -> AsyncIterator[Result]:
        """The result of each case, one after another; the rest fails untried once `MAX_UNANSWERED` were not answered."""
        unanswered = 0
        for case in suite:
            if unanswered >= MAX_UNANSWERED:
                yield self._result(case, self._request(case), None, f"not tried: {unanswered} calls had no answer", 0)
                continue
            result = await self.check(case)
            unanswered = unanswered + 1 if result.status is None else 0
            yield result

    async def check(self, case: Case) -> Result:
        """Send one case and judge its answer."""
        request = self._request(case)
        answer: _Answer | None = None
        started = time.monotonic_ns()
        try:
            answer = await self._send_in_time(request)
            if case.misdeed is Misdeed.REPLAYED:
                answer = await self._send_in_time(request)
            self._judge(case, answer)
            verdict = ""
        except TimeoutError:
            verdict = f"no whole answer within {ANSWER_SECONDS:g} s"
        except httpx2.HTTPError as error:
            verdict = f"{type(error).__name__}: {error}"
        except (_Wrong, SignatureRefused) as error:
            verdict = str(error)
        return self._result(case, request, answer, verdict, (time.monotonic_ns() - started) // 1_000_000)

    @staticmethod
    def _result(case: Case, request: "_Request", answer: "_Answer | None", verdict: str, ms: int) -> Result:
        return Result(
            name=case.name,
            section=case.section,
            passed=not verdict,
            counts=case.must,
            expected=" or ".join(sorted(case.passes)),
            verdict=verdict or "passed",
            sent=request.shown,
            status=answer.status if answer else None,
            answer=answer.body.decode(errors="replace")[:SHOWN_CHARACTERS] if answer else "",
            ms=ms,
            advice=case.advice if verdict else None,
        )

    def _judge(self, case: Case, answer: _Answer) -> None:
        if answer.status != _HTTP_OK:
            raise _Wrong(f"HTTP status {answer.status} instead of {_HTTP_OK}: every result code travels in a 200")
        try:
            fields = decode_object(answer.body)
        except ValueError as error:
            raise _Wrong(f"the answer is {error}") from None
        code = fields.get("resultCode")
        if code not in case.passes:
            raise _Wrong(f"resultCode is {code!r}")
        if case.call.dialect is Dialect.LICENSE_1_0:
            self._check_signature(answer)
        if case.call.name == "getLicense" and case.misdeed is Misdeed.NONE:
            for name in ("license", "instanceId"):
                if not isinstance(fields.get(name), str) or not fields[name]:
                    raise _Wrong(f"{name} is missing")
        if case.misdeed is Misdeed.NONE:
            self._answered[case.call.name] = answer.body
        elif case.misdeed is Misdeed.REPEATED and self._answered.get(case.call.name) != answer.body:
            raise _Wrong("the same case was answered with other bytes")

    def _check_signature(self, answer: _Answer) -> None:
        """`Body-Sign` in exactly this spelling, over the bytes of the body (spec §4.1.2)."""
        found = [value for name, value in answer.headers if name == BODY_SIGN_HEADER.encode()]
        if not found and any(name.lower() == BODY_SIGN_HEADER.lower().encode() for name, _ in answer.headers):
            raise _Wrong("the header must be spelled Body-Sign: the marketplace compares upper and lower case")
        check_body_sign(found[0].decode("latin-1") if found else None, answer.body, self._access_key)

    async def _send_in_time(self, request: _Request) -> _Answer:
        """An answer that drips is late as well: the limit is for the whole of it."""
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._send(request)

    async def _send(self, request: _Request) -> _Answer:
        headers = {"Content-Type": "application/json"} if request.method == "POST" else {}
        url = f"{self._url}?{request.query}" if request.query else self._url
        body = bytearray()
        async with self._http.stream(request.method, url, content=request.body or None, headers=headers) as response:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise _Wrong(f"the answer exceeds {MAX_ANSWER_BYTES} bytes")
        return _Answer(status=response.status_code, headers=response.headers.raw, body=bytes(body))

    def _request(self, case: Case) -> _Request:
        fields = self._fields(case)
        return self._get(case, fields) if case.call.dialect is Dialect.LICENSE_1_0 else self._post(case, fields)

    def _fields(self, case: Case) -> dict[str, str]:
        """The call's fields with the case's misdeed done to them."""
        fields = {name: self._values.get(name, field.value) for name, field in case.call.fields.items()}
        fields["testFlag"] = "1"
        match case.misdeed:
            case Misdeed.UNKNOWN_FIELD:
                fields["zzUnknown"] = "ignore me"
            case Misdeed.MISSING:
                del fields[case.field]
            case Misdeed.TOO_LONG:
                fields[case.field] = "9" * (case.call.fields[case.field].length + 1)
            case Misdeed.NO_CHOICE:
                fields[case.field] = "NOSUCH"
            case Misdeed.UNKNOWN_ACTIVITY:
                fields["activity"] = "noSuchActivity"
            case Misdeed.REPEATED if "businessId" in fields:
                fields["businessId"] = secrets.token_hex(16)  # it differs on every request (spec §2.2)
            case Misdeed.UNKNOWN_CODE:
                fields |= {"testFlag": "0", "license": f"PLCHECK{secrets.token_hex(8).upper()}"}
        return fields

    def _post(self, case: Case, fields: Mapping[str, str]) -> _Request:
        """As the marketplace serializes: names ascending, no blanks (spec §4.2)."""
        body = b"{" if case.misdeed is Misdeed.UNREADABLE else msgspec.json.encode(fields, order="sorted")
        at = self._clock() + {Misdeed.STALE: -2 * MINUTE, Misdeed.EARLY: 2 * MINUTE}.get(case.misdeed, 0)
        nonce = secrets.token_hex(16)
        signature = sign_url(body, self._key(case), nonce, at)
        if case.misdeed is Misdeed.OTHER_CASE:
            signature = signature.upper()
        if case.misdeed is Misdeed.CHANGED_AFTERWARDS:
            body += b" "
        signed = {"signature": signature, "timestamp": str(at), "nonce": nonce}
        if case.misdeed is Misdeed.UNSIGNED:
            del signed["signature"]
        return _Request(
            method="POST",
            query=urlencode(signed),
            body=body,
            shown=f"POST ?{urlencode({**signed, 'signature': _MASK})} {body.decode()}",
        )

    def _get(self, case: Case, fields: Mapping[str, str]) -> _Request:
        at = self._clock() - (24 * HOUR if case.misdeed is Misdeed.STALE else 0)
        stamped = {**fields, "timeStamp": to_datetime(at).strftime("%Y%m%d%H%M%S") + f"{at % SECOND:03}"}
        token = auth_token(stamped.items(), self._key(case))
        if case.misdeed is Misdeed.CHANGED_AFTERWARDS:
            stamped["orderId"] += "X"
        signed = stamped if case.misdeed is Misdeed.UNSIGNED else {**stamped, "authToken": token}
        return _Request(
            method="GET",
            query=urlencode(signed),
            body=b"",
            shown=f"GET {json.dumps({**stamped, 'authToken': _MASK}, ensure_ascii=False)}",
        )

    def _key(self, case: Case) -> str:
        return secrets.token_hex(16) if case.misdeed is Misdeed.WRONG_SIGNATURE else self._access_key
