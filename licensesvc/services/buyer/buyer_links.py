"""Links by which a buyer sees a supervision case without an account: made, shown once, revoked, followed.

In: who holds the link is the buyer. Out: what the buyer may do behind it (buyer_page.py).
"""

from typing import Annotated, Final

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import InvalidParameter, NotFound
from licensesvc.domain.instants import DAY
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.record_supervision import locked
from licensesvc.signing.tokens import new_token, token_hash, token_prefix
from licensesvc.storage import audit, buyer_links, supervision
from licensesvc.storage.buyer_links import BuyerLink
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase

MAX_DAYS: Final = 365
"""Days that a link may live."""
MAX_LIVE: Final = 20
"""Links of one case that live at once."""
MAX_LINKS: Final = 500
"""Links of one case, also those that are over: what one list shows."""
PREFIX: Final = "lsb"


class CreateBuyerLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new link; `days` from now it expires."""

    days: Annotated[int, msgspec.Meta(ge=1, le=MAX_DAYS)] = 30


async def create_buyer_link(
    tx: Tx, rt: Runtime, case_id: str, command: CreateBuyerLink, *, by: str
) -> tuple[BuyerLink, str]:
    """Make a link; return it with its token, which is not stored. Raises NotFound, InvalidParameter when too many live."""
    return await new_link(tx, rt, await locked(tx, case_id), command.days, by=by)


async def new_link(
    tx: Tx, rt: Runtime, case: StoredCase, days: int, *, by: str, mail: str | None = None
) -> tuple[BuyerLink, str]:
    """Make a link to a case that is locked; for a `mail` (its language) the token is kept, sealed, until that is sent.

    Raises InvalidParameter when too many live.
    """
    now = rt.clock()
    known = await buyer_links.of_case(tx, case.id)
    if sum(link.live(now) for link in known) >= MAX_LIVE or len(known) >= MAX_LINKS:
        raise InvalidParameter(f"a case has at most {MAX_LIVE} live links, {MAX_LINKS} in all: revoke one")
    token = new_token(PREFIX, rt.entropy)
    public_id = rt.new_id(ids.BUYER_LINK, now)
    link = BuyerLink(
        public_id=public_id,
        case_id=case.id,
        token_hash=token_hash(token),
        created_at=now,
        created_by=by,
        expires_at=now + days * DAY,
        sealed_token=None if mail is None else rt.vault.seal(token.encode(), token_context(public_id)),
    )
    await buyer_links.insert(tx, link)
    detail: dict[str, str | int | None] = {"link": link.public_id, "expires_at": link.expires_at}
    if mail is not None:
        detail["mail"] = mail
    event = AuditEvent(at=now, actor=by, kind="supervision.link_made", subject=case.public_id, detail=detail)
    await audit.append(tx, [event])
    return link, token


def token_context(public_id: str) -> str:
    """What the vault binds the token of a link whose mail waits to."""
    return f"buyer_link:{public_id}:token"


async def revoke_buyer_link(tx: Tx, rt: Runtime, link_id: str, *, by: str) -> None:
    """Revoke a link, from now on; doing it twice is fine. Raises NotFound."""
    if not await buyer_links.known(tx, link_id):
        raise NotFound
    now = rt.clock()
    case_id = await buyer_links.revoke(tx, link_id, now)
    if case_id is None:
        return
    case = await supervision.by_id(tx, case_id)
    event = AuditEvent(
        at=now, actor=by, kind="supervision.link_revoked", subject=case.public_id, detail={"link": link_id}
    )
    await audit.append(tx, [event])


async def follow_link(tx: Tx, rt: Runtime, token: str) -> tuple[BuyerLink, StoredCase]:
    """The case that a token opens. NotFound for every other text, and for a link that is over: nobody learns which."""
    if token_prefix(token) is None:
        raise NotFound
    link = await buyer_links.by_hash(tx, token_hash(token))
    if link is None or not link.live(rt.clock()):
        raise NotFound
    case = await supervision.by_id(tx, link.case_id)
    return link, case
