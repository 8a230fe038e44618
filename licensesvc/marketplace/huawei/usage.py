"""Bodies of software-usage-info (spec §1.5): who uses the software, or how many.

In: reading a report, writing its answer. Out: what is counted, and that names of clients are never stored.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from licensesvc.marketplace.huawei.openapi import MAX_LICENSE, listed, mandatory, read_fields, success
from licensesvc.marketplace.huawei.openapi import OpenApiFault as Fault
from licensesvc.marketplace.huawei.result_codes import OpenApiCode

MAX_CODES = 100
MAX_REPORTS = 100
MAX_CLIENT = 256
MAX_DIGITS = 9

MAX_BODY = 11 * 1024 * 1024
"""Bytes: 100 codes with 100 names of 256 characters of 4 bytes each are 10.4 million."""
SMALL_BODY = 64 * 1024
"""Bytes up to which a body is read whatever it is made of."""
MAX_PARTS = 200_000
"""Brackets and commas of a larger body: a report of 10,000 names has 30,000; others would only cost memory."""


class CodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one code: names of clients, the largest number of active ones, or both in different reports."""

    license: str
    clients: frozenset[str]
    active_num: int | None

    def __repr__(self) -> str:
        return f"CodeReport({len(self.clients)} clients, active_num={self.active_num})"


class UsageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Up to 100 codes; the same code may stand there more than once."""

    usage_info: tuple[CodeReport, ...]


def parse_usage(body: bytes) -> UsageRequest:
    """Read a report; unknown fields are ignored, `null` is absent [I].

    Raises `OpenApiFault`: `UNREADABLE` for what is no JSON, `BAD_REQUEST` for everything else.
    """
    if len(body) > SMALL_BODY and body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_PARTS:
        raise Fault(OpenApiCode.BAD_REQUEST)
    entries = listed(read_fields(body), "usage_info", MAX_CODES)
    return UsageRequest(usage_info=tuple(_code_report(_object(entry)) for entry in entries))


def usage_success(check_fail_list: Sequence[str]) -> bytes:
    """Write the answer: the codes of which nothing was counted, as they were sent, each once [I]."""
    return success({"check_fail_list": check_fail_list})


def _code_report(entry: dict[str, Any]) -> CodeReport:
    code = mandatory(entry, "license", MAX_LICENSE)
    clients: set[str] = set()
    active_num: int | None = None
    for report in listed(entry, "software_usage_Info", MAX_REPORTS):
        said = _said(_object(report))
        if isinstance(said, str):
            clients.add(said)
        else:
            active_num = said if active_num is None else max(said, active_num)
    return CodeReport(license=code, clients=frozenset(clients), active_num=active_num)


def _said(report: dict[str, Any]) -> str | int:
    """Exactly one of the two must be there."""
    number = report.get("active_num")
    if number is None:
        return mandatory(report, "id", MAX_CLIENT)
    if report.get("id") is not None or type(number) is not int or not 0 <= number < 10**MAX_DIGITS:
        raise Fault(OpenApiCode.BAD_REQUEST)
    return number


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Fault(OpenApiCode.BAD_REQUEST)
    return value
