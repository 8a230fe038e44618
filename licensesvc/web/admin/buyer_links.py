"""`/supervision-cases/{id}/buyer-links` and `/buyer-links/{id}`: links that open the buyer's page of a case, made by operators and shown once."""

from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.services.buyer.buyer_links import CreateBuyerLink, create_buyer_link, revoke_buyer_link
from licensesvc.services.mail.mail_link import MailBuyerLink, page_url, queue_link, require_mail
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage import buyer_links, supervision
from licensesvc.storage.buyer_links import BuyerLink
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import IdempotencyKey, PublicId, Time, perform, time_or_none
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class BuyerLinkView(msgspec.Struct, frozen=True, kw_only=True):
    """A link as it is known; its address is not stored. `mail_unsent`: it was made for a mail that no server has taken yet."""

    id: str
    created_at: Time
    created_by: str
    expires_at: Time
    revoked_at: Time | None
    mailed_at: Time | None
    mail_unsent: bool


class NewBuyerLink(BuyerLinkView, frozen=True, kw_only=True):
    """A link in full, which is shown this once; `url` begins with `public_url` where that is set."""

    url: str

    def __repr__(self) -> str:
        return f"NewBuyerLink({self.id})"


class BuyerLinks(msgspec.Struct, frozen=True, kw_only=True):
    """All links of a case: there are few."""

    items: list[BuyerLinkView]


def _view(link: BuyerLink) -> BuyerLinkView:
    return BuyerLinkView(
        id=link.public_id,
        created_at=rfc3339(link.created_at),
        created_by=link.created_by,
        expires_at=rfc3339(link.expires_at),
        revoked_at=time_or_none(link.revoked_at),
        mailed_at=time_or_none(link.mailed_at),
        mail_unsent=link.sealed_token is not None,
    )


@post(
    "/supervision-cases/{case_id:str}/buyer-links",
    opt=OPERATOR,
    operation_id="createBuyerLink",
    responses=problems("NOT_FOUND", *JSON_BODY, "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED"),
)
async def add_buyer_link(
    request: JSONRequest,
    case_id: PublicId,
    data: JSONBody[CreateBuyerLink],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    idempotency_key: IdempotencyKey = None,
) -> Response[NewBuyerLink]:
    """Make a link to the buyer's page of a case; it is shown this once."""

    async def verb(tx: Tx) -> NewBuyerLink:
        link, token = await create_buyer_link(tx, runtime, case_id, data, by=request.user.name)
        return NewBuyerLink(**msgspec.structs.asdict(_view(link)), url=page_url(settings.public_url, token))

    return await perform(request, runtime, idempotency_key, verb)


@post(
    "/supervision-cases/{case_id:str}/buyer-links/mail",
    opt=OPERATOR,
    operation_id="mailBuyerLink",
    responses=problems(
        "NOT_FOUND", *JSON_BODY, "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED", "MAIL_NOT_CONFIGURED", "NO_MAIL_ADDRESS"
    ),
)
async def mail_buyer_link(
    request: JSONRequest,
    case_id: PublicId,
    data: JSONBody[MailBuyerLink],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    idempotency_key: IdempotencyKey = None,
) -> Response[BuyerLinkView]:
    """Mail a new link to the buyer, soon after the answer, which does not show it; one whose mail waits already is not made twice."""
    require_mail(smtp_url=settings.smtp_url, mail_from=settings.mail_from, public_url=settings.public_url)

    async def verb(tx: Tx) -> BuyerLinkView:
        return _view(await queue_link(tx, runtime, case_id, data, by=request.user.name))

    return await perform(request, runtime, idempotency_key, verb)


@get(
    "/supervision-cases/{case_id:str}/buyer-links",
    opt=READER,
    operation_id="listBuyerLinks",
    responses=problems("NOT_FOUND"),
)
async def list_buyer_links(case_id: PublicId, runtime: NamedDependency[Runtime]) -> BuyerLinks:
    """List the links of a case, also revoked and expired ones, the oldest first."""

    async def views(tx: Tx) -> BuyerLinks:
        case = await supervision.by_public_id(tx, case_id)
        if case is None:
            raise NotFound
        return BuyerLinks(items=[_view(link) for link in await buyer_links.of_case(tx, case.id)])

    return await runtime.db.read(views)


@delete(
    "/buyer-links/{link_id:str}",
    opt=OPERATOR,
    operation_id="revokeBuyerLink",
    responses=problems("NOT_FOUND"),
)
async def delete_buyer_link(
    request: Request[Any, Any, Any], link_id: PublicId, runtime: NamedDependency[Runtime]
) -> None:
    """Revoke a link, from now on; doing it twice is fine."""
    await runtime.db.write(lambda tx: revoke_buyer_link(tx, runtime, link_id, by=request.user.name))


ROUTES: Final = (add_buyer_link, mail_buyer_link, list_buyer_links, delete_buyer_link)
