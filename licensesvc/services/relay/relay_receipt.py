"""The marketplace's last answer about a license as a document that we sign: nobody who can write our database can make one up.

In: making it, and reading it back with every check. Out: storing it (`relay_store`), when it counts (`domain.relay`).
"""

from typing import Any, Final

import msgspec

from licensesvc.domain.instants import DAY, MINUTE, SECOND, Instant
from licensesvc.domain.relay import LastKnown, usable_status
from licensesvc.marketplace.huawei.answers import CodeFacts
from licensesvc.services.runtime import Runtime
from licensesvc.signing import envelope
from licensesvc.signing.envelope import InvalidToken

CLOCK_DIFFERENCE: Final = 5 * MINUTE
"""Forgiven between the clocks of two nodes on one database."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What was kept: the document for the software to check, its meaning, and the fields that the marketplace wrote."""

    document: str
    known: LastKnown
    facts: CodeFacts


def make_receipt(
    rt: Runtime,
    license_id: str,
    facts: CodeFacts,
    *,
    expires_at: Instant | None,
    offline_days: int,
    day: str | None,
    now: Instant,
) -> str:
    """Sign an answer; `exp` is how long software may rely on it (`offline_days` of the license's policy), not when the license ends.

    `day` is the calendar day whose query it answers, None when it is the estimate that activate gives.
    """
    claims: dict[str, Any] = {
        "iss": rt.issuer,
        "sub": license_id,
        "jti": rt.new_id("rcp", now),
        "iat": now // SECOND,
        "exp": (now + offline_days * DAY) // SECOND,
        "status": usable_status(facts.status),
        "expires_at": expires_at // SECOND if expires_at is not None else None,
        "day": day,
        "activate_time": facts.activate_time,
        "expire_time": facts.expire_time,
        "product_id": facts.product_id,
        "order_id": facts.order_id,
        "amount": facts.amount,
    }
    signing_input = envelope.signing_input(typ=envelope.RELAY_TYP, kid=rt.signer.kid, claims=claims)
    return envelope.assemble(signing_input, rt.signer.sign(signing_input))


def read_receipt(rt: Runtime, document: str, license_id: str, now: Instant) -> Receipt | None:
    """Read a document back; None when it is not ours, of another license, over, or signed by a key that is not believed."""
    try:
        claims = envelope.verify(
            document,
            typ=envelope.RELAY_TYP,
            keys=rt.signer.keyset.verification_keys(),
            now=now,
            issuer=rt.issuer,
            leeway_s=CLOCK_DIFFERENCE // SECOND,
        )
    except InvalidToken:
        return None
    if claims["sub"] != license_id:
        return None
    expires_at = claims["expires_at"]
    return Receipt(
        document=document,
        known=LastKnown(
            status=usable_status(claims["status"]),
            expires_at=None if expires_at is None else expires_at * SECOND,
            asked_at=claims["iat"] * SECOND,
            valid_until=claims["exp"] * SECOND,
            day=claims["day"],
        ),
        facts=CodeFacts(
            status=claims["status"],
            activate_time=claims["activate_time"],
            expire_time=claims["expire_time"],
            product_id=claims["product_id"],
            order_id=claims["order_id"],
            amount=claims["amount"],
        ),
    )
