"""Mails the buyer a new link to the page of a case: queued with the link, sent from the outbox, the token forgotten once it is sent.

In: the link is made when the mail is queued, so it can be listed and revoked at once, and its token lies sealed until the mail server has
taken the mail; another attempt sends the same link again, never a second one. Out: links (buyer_links.py), how mail is sent (mailer.py).
"""

from importlib.resources import files
from string import Template
from typing import Annotated, Final

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import MailNotConfigured, NoMailAddress
from licensesvc.domain.instants import to_datetime
from licensesvc.services.buyer.buyer_links import MAX_DAYS, new_link, token_context
from licensesvc.services.mail.mail_code import Language, address_of, plain, site_language
from licensesvc.services.mail.mailer import Mail, MailDelayed, Mailer, Undeliverable
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.record_supervision import locked
from licensesvc.storage import audit, buyer_links, catalog, connections, orders, outbox, supervision
from licensesvc.storage.buyer_links import BuyerLink
from licensesvc.storage.outbox import OutboxItem
from licensesvc.storage.port import Tx

OUTBOX_KIND: Final = "mail_buyer_link"

_NOBODY: Final = {Language.CHINESE: "用户", Language.ENGLISH: "customer"}


class MailBuyerLink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mail a new link to the buyer; `days` from now it expires. Without a language that of the connection's site."""

    days: Annotated[int, msgspec.Meta(ge=1, le=MAX_DAYS)] = 30
    language: Language | None = None


class LinkMail(msgspec.Struct, frozen=True, kw_only=True):
    """What the outbox keeps of a mail."""

    link: str
    language: Language


def page_url(public_url: str, token: str) -> str:
    """Where the page of a link is: a path alone where no `public_url` is set."""
    return f"{public_url.rstrip('/')}/buyer/{token}"


async def queue_link(tx: Tx, rt: Runtime, case_id: str, command: MailBuyerLink, *, by: str) -> BuyerLink:
    """Make a link and queue its mail; one of the case that waits already is not queued twice, but returned.

    Raises NotFound, NoMailAddress (nobody is known, or was erased), InvalidParameter when too many links live.
    """
    case = await locked(tx, case_id)
    await address_of(tx, case.line_ref)
    now = rt.clock()
    for known in await buyer_links.of_case(tx, case.id):
        waits = known.sealed_token is not None and known.live(now)
        if waits and await outbox.is_waiting(tx, kind=OUTBOX_KIND, subject=known.public_id):
            return known
    connection = (await connections.by_id(tx, case.connection_id)).connection
    language = command.language or site_language(connection)
    link, _ = await new_link(tx, rt, case, command.days, by=by, mail=language)
    payload = msgspec.json.encode(LinkMail(link=link.public_id, language=language)).decode()
    await outbox.add(tx, kind=OUTBOX_KIND, subject=link.public_id, payload=payload, now=now)
    return link


async def send_link(rt: Runtime, mailer: Mailer | None, public_url: str, item: OutboxItem) -> None:
    """Write and send a queued mail to the address of now, then forget the token. Raises MailDelayed, Undeliverable."""
    if mailer is None or not public_url:
        raise MailDelayed("smtp_url, mail_from and public_url are not all set")
    wanted = msgspec.json.decode(item.payload, type=LinkMail)
    mail = await rt.db.read(lambda tx: _mail(tx, rt, wanted, public_url, item))
    if mail is not None:
        await mailer.send(mail)
        await rt.db.write(lambda tx: _sent(tx, rt, wanted))


def require_mail(*, smtp_url: str, mail_from: str, public_url: str) -> None:
    """Raise MailNotConfigured unless the settings suffice for a mail with a link in it."""
    if not smtp_url or not mail_from:
        raise MailNotConfigured
    if not public_url:
        raise MailNotConfigured("public_url is not set, so a mail could name no link")


async def _mail(tx: Tx, rt: Runtime, wanted: LinkMail, public_url: str, item: OutboxItem) -> Mail | None:
    """The mail as it is to be sent now; None = it was sent, and only the end of the work was not written down."""
    link = await buyer_links.by_public_id(tx, wanted.link)
    assert link is not None  # no link is ever removed
    if link.mailed_at is not None:
        return None
    if link.sealed_token is None or not link.live(rt.clock()):
        raise Undeliverable("the link was revoked, or has expired")
    case = await supervision.by_id(tx, link.case_id)
    try:
        address = await address_of(tx, case.line_ref)
    except NoMailAddress as error:
        raise Undeliverable(error.message) from None
    buyer = await orders.buyer_of_line(tx, case.line_ref)
    line = await orders.line_by_id(tx, case.line_ref)
    place = (await orders.places_of(tx, [case.line_ref]))[case.line_ref]
    connection = (await connections.by_id(tx, case.connection_id)).connection
    token = rt.vault.open(link.sealed_token, token_context(link.public_id)).decode()
    subject, text = compose(
        wanted.language,
        name=(buyer.real_name or buyer.name or "") if buyer else "",
        product=(await catalog.product_by_id(tx, line.product_id)).name,
        order=place.order_id,
        url=page_url(public_url, token),
        ends=f"{to_datetime(link.expires_at, connection.calendar):%Y-%m-%d %H:%M} ({connection.calendar.key})",
    )
    at = rt.clock() if item.first_tried_at is None else item.first_tried_at
    return Mail(key=f"{link.public_id}.{item.id}", to=address, subject=subject, text=text, at=at)


def compose(language: Language, *, name: str, product: str, order: str, url: str, ends: str) -> tuple[str, str]:
    """Subject and text of the mail; names that buyers gave themselves stay on one line."""
    template = files(__package__).joinpath("mail_templates", f"link.{language}.txt").read_text(encoding="utf-8")
    values = {"product": plain(product), "order": order, "url": url, "ends": ends}
    subject, _, text = Template(template).substitute(values, name=plain(name) or _NOBODY[language]).partition("\n")
    return subject, text


async def _sent(tx: Tx, rt: Runtime, wanted: LinkMail) -> None:
    now = rt.clock()
    case_id = await buyer_links.mailed(tx, wanted.link, now)
    if case_id is None:  # revoked while it was on its way, or sent by another process
        return
    case = await supervision.by_id(tx, case_id)
    detail: dict[str, str | int | None] = {"link": wanted.link}
    event = AuditEvent(at=now, actor="system", kind="supervision.link_mailed", subject=case.public_id, detail=detail)
    await audit.append(tx, [event])
