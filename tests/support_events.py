"""Late, repeated and crossed calls of the marketplace with the end that each leads to: the table behind docs/marketplace-events.md.

`python -m tests.support_events` prints the page. Tests play every row on both engines (tests/services/test_service_marketplace_events.py).

A license of one year starts on 2026-11-18. What happens is written as words in order: names of `CALLS`, `order` (somebody tells of the order and its
code), `activate`, `revoke`, `operator 2030` (the seller sets the end), `2028` (time passes until the middle of that year); `A+B` arrive at once, `A*60`
is repeated.
"""

import sys
from typing import Final, NamedTuple

from licensesvc.domain.marketplace_calls import Scene
from licensesvc.marketplace.huawei.callbacks import (
    Call,
    ExpireLicense,
    RefreshLicense,
    RefreshLicenseCode,
    ReleaseLicense,
    ReleaseLicenseCode,
    Status,
    UpdateLicenseCodeStatus,
)

CODE: Final = "PLTEST0001"
INSTANCE: Final = "biz-1"


def renewal(order_id: str, year: int, scene: Scene = Scene.RENEWAL, code: str = CODE) -> RefreshLicenseCode:
    return RefreshLicenseCode(
        scene=scene,
        order_id=order_id,
        order_line_id=f"{order_id}-000001",
        license=code,
        product_id=None,
        expire_time=f"{year}1118110640",
        test=False,
    )


def refund_of_renewal(order_id: str, year: int) -> RefreshLicenseCode:
    return renewal(order_id, year, Scene.UNSUBSCRIBE_RENEWAL_PERIOD)


def status(wanted: Status) -> UpdateLicenseCodeStatus:
    return UpdateLicenseCodeStatus(license=CODE, status=wanted, test=False)


def release(order_id: str | None = None) -> ReleaseLicenseCode:
    return ReleaseLicenseCode(
        license=CODE, order_id=order_id, order_line_id=f"{order_id}-000001" if order_id else None, test=False
    )


def v1_renewal(order_id: str, year: int) -> RefreshLicense:
    return RefreshLicense(
        order_id=order_id,
        instance_id=INSTANCE,
        product_id=None,
        expire_time=f"{year}1118110640",
        period_type=None,
        period_number=None,
        test=False,
    )


CALLS: Final[dict[str, tuple[str, Call]]] = {
    "R1": ("renewal until 2028, ordered in 2027-01", renewal("CS2701010000AAAAA", 2028)),
    "R2": ("renewal until 2029, ordered in 2027-03", renewal("CS2703010000BBBBB", 2029)),
    "U1": ("refund of R1, ordered in 2027-02: until 2027 again", refund_of_renewal("CS2702010000CCCCC", 2027)),
    "U2": ("refund of R2, ordered in 2027-04: until 2028 again", refund_of_renewal("CS2704010000DDDDD", 2028)),
    "R1'": ("R1, but until 2030", renewal("CS2701010000AAAAA", 2030)),
    "r1": ("renewal until 2028, when it was ordered is not known", renewal("renewal-1", 2028)),
    "r2": ("renewal until 2029, when it was ordered is not known", renewal("renewal-2", 2029)),
    "u1": ("refund until 2027 again, when it was ordered is not known", refund_of_renewal("refund-1", 2027)),
    "FREEZE": ("updateLicenseCodeStatus FREEZE", status(Status.FREEZE)),
    "UNFREEZE": ("updateLicenseCodeStatus UNFREEZE", status(Status.UNFREEZE)),
    "RELEASE": ("releaseLicenseCode without an order: not renewed", release()),
    "REFUND": ("releaseLicenseCode with the order of the refund", release("CS2705010000EEEEE")),
    "V1R": ("refreshLicense until 2028", v1_renewal("CS2701010000AAAAA", 2028)),
    "V1E": ("expireLicense", ExpireLicense(order_id="CS1", instance_id=INSTANCE, test=False)),
    "V1D": ("releaseLicense", ReleaseLicense(order_id="CS1", instance_id=INSTANCE, test=False)),
}


class Row(NamedTuple):
    """One case; `answers` are those of the calls in order, `ends` the year, `remarks` what the row leaves for people to see."""

    case: str
    happens: str
    answers: str
    status: str
    ends: int
    why: str
    flagged: bool = False
    learn: bool = False


OK = "000000"
ROWS: Final = (
    Row("release before its order is known", "RELEASE order RELEASE", "000003 000000", "RELEASED", 2027, "refused until the code is known; the marketplace repeats"),
    Row("the same, codes are learned", "RELEASE order", OK, "RELEASED", 2027, "the order finds its license released, and gets no second one", learn=True),
    Row("renewal before its order is known", "R1 order R1", "000003 000000", "NOT_ACTIVATED", 2028, "as above"),
    Row("the same, codes are learned", "R1 order", OK, "NOT_ACTIVATED", 2028, "the end that the call told outlives the placeholder", learn=True),
    Row("freeze before its order is known, codes are learned", "FREEZE order", OK, "NOT_ACTIVATED", 2027, "nobody has told an end that lies ahead, so the marketplace is right; activation is refused until UNFREEZE", learn=True),
    Row("renewal before activation", "order R1 activate", OK, "ALIVE", 2028, "the end of a refresh is absolute: activation does not move it"),
    Row("freeze while the end lies ahead", "order activate FREEZE", OK, "ALIVE", 2027, "acknowledged, flagged, not obeyed", flagged=True),
    Row("the same, ten times", "order activate FREEZE*10", OK, "ALIVE", 2027, "one event", flagged=True),
    Row("freeze before the refund that explains it", "order activate R1 2028 FREEZE U1", "000000 000000 000000", "FROZEN", 2027, "the refund brings the end back; the flagged freeze counts now"),
    Row("freeze behind the refund", "order activate R1 2028 U1 FREEZE", "000000 000000 000000", "FROZEN", 2027, "the same end in the right order"),
    Row("freeze after the end", "order activate 2028 FREEZE", OK, "FROZEN", 2027, ""),
    Row("late renewal, UNFREEZE first", "order activate 2028 FREEZE UNFREEZE R1", "000000 000000 000000", "ALIVE", 2028, "expired in between"),
    Row("late renewal, refresh first", "order activate 2028 FREEZE R1 UNFREEZE", "000000 000000 000000", "ALIVE", 2028, "a renewal that reaches into the future ends the freeze by itself"),
    Row("late renewal, a freeze comes once more in between", "order activate 2028 FREEZE UNFREEZE FREEZE R1", "000000 000000 000000 000000", "ALIVE", 2028, "as above"),
    Row("freeze delayed behind the renewal", "order activate 2028 R1 FREEZE", "000000 000000", "ALIVE", 2028, "not obeyed", flagged=True),
    Row("sixty repeats of one refresh", "order activate R1*60", OK, "ALIVE", 2028, "one effect, one event, the same bytes"),
    Row("sixty repeats at once", "order activate " + "+".join(["R1"] * 60), OK, "ALIVE", 2028, "as above; one that had to wait too long is answered 000004"),
    Row("two orders at once", "order activate R1+R2", "000000 000000", "ALIVE", 2029, "the newer order wins, whichever came first"),
    Row("an older refresh is repeated late", "order activate R1 R2 R1", "000000 000000 000000", "ALIVE", 2029, "an order counts once"),
    Row("an older refresh comes late for the first time", "order activate R2 R1", "000000 000000", "ALIVE", 2029, "the time of the order decides, not the arrival"),
    Row("the same, nobody knows when they were ordered", "order activate r2 r1", "000000 000000", "ALIVE", 2029, "renewals only lengthen"),
    Row("refund of the renewal period", "order activate R1 U1", "000000 000000", "ALIVE", 2027, ""),
    Row("the renewal arrives behind its refund", "order activate U1 R1", "000000 000000", "ALIVE", 2027, "the refund is the newer order"),
    Row("refund of the second renewal, everything backwards", "order activate U2 R2 R1", "000000 000000 000000", "ALIVE", 2028, "as above"),
    Row("the same, nobody knows when they were ordered", "order activate r1 u1", "000000 000000", "ALIVE", 2027, "what arrives later counts as the newer"),
    Row("the same order with another end", "order activate R1 R1'", "000000 000000", "ALIVE", 2028, "the order has done its work: the first end stays"),
    Row("refund after a renewal", "order activate R1 REFUND", "000000 000000", "RELEASED", 2028, ""),
    Row("release, then a late refresh", "order activate RELEASE R1", "000000 000000", "RELEASED", 2027, "acknowledged, noted, nothing changes"),
    Row("release, then activation", "order RELEASE activate", OK, "RELEASED", 2027, "activation is refused with 92020003"),
    Row("release, later the refund is told", "order activate RELEASE REFUND REFUND", "000000 000000 000000", "RELEASED", 2027, "the refund is added to the audit, once"),
    Row("status of a released license", "order activate RELEASE FREEZE UNFREEZE", "000000 000000 000000", "RELEASED", 2027, ""),
    Row("refresh of a revoked license", "order activate revoke R1", OK, "REVOKED", 2027, "the seller's word is final but for a release"),
    Row("release of a revoked license", "order activate revoke RELEASE", OK, "RELEASED", 2027, ""),
    Row("refresh of a license whose end the seller set", "order activate operator 2030 R1", OK, "ALIVE", 2030, "the seller outranks the marketplace; the call is noted"),
    Row("freeze of a code never activated", "order 2028 FREEZE activate", OK, "NOT_ACTIVATED", 2027, "activation is refused with 92020003"),
    Row("the same, with UNFREEZE", "order 2028 FREEZE UNFREEZE activate", "000000 000000", "ALIVE", 2029, "its year counts from the activation"),
    Row("freeze of a code never activated whose end lies ahead", "order FREEZE activate", OK, "ALIVE", 2027, "not obeyed", flagged=True),
    Row("License 1.0: expiry, then a late renewal", "order activate 2028 V1E V1R", "000000 000000", "ALIVE", 2028, "License 1.0 has no UNFREEZE: the renewal ends the freeze"),
    Row("License 1.0: expiry behind the renewal", "order activate 2028 V1R V1E", "000000 000000", "ALIVE", 2028, "not obeyed", flagged=True),
    Row("License 1.0: release, then a late refresh", "order activate V1D V1R", "000000 000000", "RELEASED", 2027, ""),
    Row("License 1.0: release before its order is known", "V1D order V1D", "000003 000000", "RELEASED", 2027, "the marketplace calls once: restart the message"),
)  # fmt: skip


def page() -> str:
    """The page of the documentation."""
    lines = [
        "<!-- Written by python -m tests.support_events; change the table there. -->",
        "",
        "# Calls that come late, twice or out of order",
        "",
        "The marketplace repeats its calls for hours, and they overtake one another. As far as the age of their orders can be told, the same calls lead to the same end in",
        "whatever order they come; a test plays every row below on both databases. A license of one year was activated on 2026-11-18. `flagged` is `freeze_unheeded_at` of the license, and a line in the message.",
        "",
        "| call | meaning |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, (meaning, _) in CALLS.items()),
        "",
        "`order` = somebody tells of the order and its code; `2028` = time passes until the middle of that year; `A+B` = both at once; `A*60` = repeated.",
        "",
        "| case | what happens | answers | status afterwards | ends | why |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.case} | `{_short(row.happens)}` | {row.answers} | {row.status}{', flagged' if row.flagged else ''} | {row.ends} | {row.why} |"
            for row in ROWS
        ),
        "",
        "Which of two refreshes is the newer: the times of their orders as order/query told them; else the minute that their ids carry (`CS2211181819…`); else renewals only ever lengthen",
        "and refunds of renewals only ever shorten; else the one that arrived later. A call that was carried out before changes nothing, whatever it says.",
        "",
        "A code that is learned (`unknown_codes` of the connection is `learn`) hangs on an order `LEARNED-…` without a supervision case. The order itself comes with the code, by CSV or by hand:",
        "the license moves to it with all that calls and software have made of it, and takes its product, terms and times from there. An answer of order/query names no code, so it cannot",
        "do that alone; it makes the order, and the code joins it later.",
        "",
    ]
    return "\n".join(lines)


def _short(happens: str) -> str:
    return "order activate R1+R1+… (60)" if happens.count("+") > 9 else happens


if __name__ == "__main__":
    sys.stdout.write(page())
