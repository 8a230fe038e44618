"""The calls about license codes that a seller makes (spec §§1.3–1.5): activate, query and usage.

In: bodies and URIs of both versions. Out: transport (`client`), reading answers (`answers`), when to call. Every function raises
`MarketplaceUnreachable`, `MarketplaceRefusal`, `MalformedAnswer` or `BreakerOpen`. None is ever retried here: activate is not
idempotent, so whoever lost its answer asks with `query`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.marketplace.huawei import answers
from licensesvc.marketplace.huawei.answers import CodeFacts
from licensesvc.marketplace.huawei.client import Account, MarketplaceClient
from licensesvc.marketplace.huawei.orders import MalformedAnswer

ROOT: Final = "/api/mkp-openapi-public/global"
MAX_CODES: Final = 100
"""Codes in one batch (spec §§1.3, 1.5; assumed for the query [I])."""
MAX_CLIENTS: Final = 100
"""Clients of one code in one usage report (spec §1.5)."""

_T = TypeVar("_T")


async def activate(
    client: MarketplaceClient, account: Account, code: str, real_effect_time: str | None, now: Instant
) -> CodeFacts:
    """Put one code into service (v1); `real_effect_time` is 14 digits, UTC."""
    fields = _with_time({"license": code}, real_effect_time)
    return await _post(client, account, "/v1/license/activate", fields, now, answers.parse_activated)


async def activate_batch(
    client: MarketplaceClient, account: Account, codes: Sequence[str], real_effect_time: str | None, now: Instant
) -> None:
    """Put up to `MAX_CODES` codes into service (v2), all or none [I]; the answer carries nothing."""
    fields = _with_time({"license_list": list(codes)}, real_effect_time)
    await _post(client, account, "/v2/license/activate", fields, now, answers.parse_done)


async def query(client: MarketplaceClient, account: Account, code: str, now: Instant) -> CodeFacts:
    """Ask for one code (v1), formerly its heartbeat."""
    return await _post(client, account, "/v1/license/heartbeat", {"license": code}, now, answers.parse_code)


async def query_batch(
    client: MarketplaceClient, account: Account, codes: Sequence[str], now: Instant
) -> dict[str, CodeFacts]:
    """Ask for up to `MAX_CODES` codes (v2); body and answer are [I], an answer of another form raises `answers.UnknownShape`."""
    return await _post(
        client,
        account,
        "/v2/license/heartbeat",
        {"license_list": list(codes)},
        now,
        lambda body: answers.parse_codes(body, codes),
    )


async def report_usage(
    client: MarketplaceClient,
    account: Account,
    usage: Mapping[str, Sequence[str | int]],
    now: Instant,
) -> frozenset[str]:
    """Report who used each code today: ids of clients, or one number of active clients (spec §1.5); at most 100 codes of at most 100.

    Returns the codes that failed validation.
    """
    fields = {
        "usage_info": [
            {
                "license": code,
                # The capital I is the marketplace's.
                "software_usage_Info": [
                    {"id": item} if isinstance(item, str) else {"active_num": item} for item in items
                ],
            }
            for code, items in usage.items()
        ]
    }
    return await _post(client, account, "/v2/license/software-usage-info", fields, now, answers.parse_usage_report)


def _with_time(fields: dict[str, Any], real_effect_time: str | None) -> dict[str, Any]:
    return fields if real_effect_time is None else {**fields, "real_effect_time": real_effect_time}


async def _post(
    client: MarketplaceClient,
    account: Account,
    path: str,
    fields: Mapping[str, Any],
    now: Instant,
    parse: Callable[[bytes], _T],
) -> _T:
    body = msgspec.json.encode(fields)
    answered = await client.call(account, "POST", ROOT + path, body, now, name=path.removeprefix("/"))
    try:
        return parse(answered.body)
    except MalformedAnswer as error:
        raise type(error)(f"HTTP {answered.status}: {error}") from None
