"""Sends the buyer the code of a license again: queued with a reason, sent from the outbox, its address read only then.

The address stands in the buyers' table and nowhere else: not in the outbox, the audit, messages or logs.
"""

import re
from enum import StrEnum
from importlib.resources import files
from string import Template
from typing import Final

import msgspec

from licensesvc.domain import changes
from licensesvc.domain.connection import Connection, Site
from licensesvc.domain.errors import DomainError, NoMailAddress
from licensesvc.services.licenses.change_license import Target, WithReason, note, seen
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.mail.mailer import Mail, MailDelayed, Mailer, Undeliverable
from licensesvc.services.runtime import Runtime
from licensesvc.storage import buyers, catalog, connections, licenses, orders, outbox
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.outbox import OutboxItem
from licensesvc.storage.port import Tx

OUTBOX_KIND: Final = "mail_code"
MAX_NAME: Final = 100
"""Characters of a name in a mail."""

MAIL_ADDRESS: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}")
"""Addresses that mail is sent to; a name in front of one is refused."""


class Language(StrEnum):
    """Languages that there is a text in."""

    CHINESE = "zh-CN"
    ENGLISH = "en"


class SendCode(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mail the code to the buyer; without a language that of the connection's site."""

    language: Language | None = None


class CodeMail(msgspec.Struct, frozen=True, kw_only=True):
    """What the outbox keeps of a mail."""

    license: str
    language: Language


async def queue_code(tx: Tx, rt: Runtime, target: Target, language: Language | None) -> LoadedLicense:
    """Queue the mail; one that waits already is not queued twice. Raises as change_license.py does, and NoMailAddress."""
    loaded = await seen(tx, target)
    changes.require_in_force(loaded.view)
    await address_of(tx, loaded.line_ref)
    if await outbox.is_waiting(tx, kind=OUTBOX_KIND, subject=target.license_id):
        return loaded
    connection = (await connections.by_id(tx, loaded.view.connection_id)).connection
    mail = CodeMail(license=target.license_id, language=language or site_language(connection))
    payload = msgspec.json.encode(mail).decode()
    await outbox.add(tx, kind=OUTBOX_KIND, subject=target.license_id, payload=payload, now=rt.clock())
    await note(tx, rt, target, "license.code_mail_queued", {"language": mail.language})
    return loaded


async def send_code(rt: Runtime, mailer: Mailer | None, item: OutboxItem) -> None:
    """Write and send a queued mail, with the code and to the address of now. Raises MailDelayed, Undeliverable."""
    if mailer is None:
        raise MailDelayed("smtp_url and mail_from are not set")
    wanted = msgspec.json.decode(item.payload, type=CodeMail)
    await mailer.send(await rt.db.read(lambda tx: _mail(tx, rt, wanted, item)))


async def _mail(tx: Tx, rt: Runtime, wanted: CodeMail, item: OutboxItem) -> Mail:
    loaded = await licenses.by_public_id(tx, wanted.license)
    assert loaded is not None  # no license is ever removed
    buyer = await orders.buyer_of_line(tx, loaded.line_ref)
    try:
        changes.require_in_force(loaded.view)
        address = await address_of(tx, loaded.line_ref)
    except DomainError as error:
        raise Undeliverable(error.message) from None
    product = await catalog.product_by_id(tx, loaded.view.product_id)
    subject, text = compose(
        wanted.language,
        name=(buyer.real_name or buyer.name or "") if buyer else "",
        product=product.name,
        order=loaded.order_id,
        code=await open_code(tx, rt, loaded),
        seats=loaded.view.seats,
    )
    at = rt.clock() if item.first_tried_at is None else item.first_tried_at
    return Mail(key=f"{wanted.license}.{item.id}", to=address, subject=subject, text=text, at=at)


def compose(language: Language, *, name: str, product: str, order: str, code: str, seats: int) -> tuple[str, str]:
    """Subject and text of the mail; names that buyers gave themselves stay on one line."""
    template = files(__package__).joinpath("mail_templates", f"code.{language}.txt").read_text(encoding="utf-8")
    values = {"product": plain(product), "order": order, "code": code, "seats": seats}
    greeted = plain(name) or {Language.CHINESE: "用户", Language.ENGLISH: "customer"}[language]
    subject, _, text = Template(template).substitute(values, name=greeted).partition("\n")
    return subject, text


def site_language(connection: Connection) -> Language:
    """The language of a mail for which nobody chose one."""
    return Language.CHINESE if connection.site is Site.CN else Language.ENGLISH


async def address_of(tx: Tx, line_ref: int) -> str:
    """Where the buyer of an order line gets mail, as of now. Raises NoMailAddress, also once the buyer was erased."""
    buyer = await orders.buyer_of_line(tx, line_ref)
    if buyer is None or buyer.email is None:
        if await buyers.line_is_erased(tx, line_ref):
            raise NoMailAddress("the buyer was erased, so no mail can be sent")
        raise NoMailAddress
    if not MAIL_ADDRESS.fullmatch(buyer.email):
        raise NoMailAddress("what is known as the buyer's mail address is none that mail can be sent to")
    return buyer.email


def plain(text: str) -> str:
    """A name as one line of printable characters, at most `MAX_NAME`."""
    return " ".join("".join(symbol if symbol.isprintable() else " " for symbol in text).split())[:MAX_NAME]
