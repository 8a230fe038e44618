"""Mail through one SMTP server, encrypted, and errors that name nobody.

In: the server from its URL, one message in plain text, what is worth trying again. Out: which mail is sent to whom, and when.
Answers of mail servers quote addresses, so of an answer only its code is ever told.
"""

import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

import aiosmtplib
import msgspec

from licensesvc.domain.instants import Instant, to_datetime

TIMEOUT_S: Final = 30.0
"""For each step of the conversation."""

_PERMANENT: Final = 500
_SECURITY: Final[dict[str, tuple[Literal["starttls", "tls", "none"], int]]] = {
    "smtp": ("starttls", 587),
    "smtps": ("tls", 465),
    "smtp+plain": ("none", 25),
}


class MailDelayed(Exception):
    """The mail could not be sent now; trying again later may work."""


class Undeliverable(Exception):
    """The mail will never be delivered as it is."""


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send mail: `smtp://` insists on STARTTLS, `smtps://` on TLS; `smtp+plain://` is for a relay on the same host."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    username: str | None
    password: str | None

    def __repr__(self) -> str:
        return f"MailServer({self.host}:{self.port}, {self.security})"


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """One mail; `key` names it, so a receiver can tell a repeat."""

    key: str
    to: str
    subject: str
    text: str
    at: Instant

    def __repr__(self) -> str:
        return f"Mail({self.key!r})"


def mail_server(url: str) -> MailServer:
    """Read `smtp://user:password@host:port`, whose form the settings have checked."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    security, port = _SECURITY[parts.scheme]
    return MailServer(
        host=parts.hostname,
        port=parts.port or port,
        security=security,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


class Mailer:
    """Sends mail from one address; `tls` replaces the system's trust, for tests."""

    def __init__(self, server: MailServer, sender: str, *, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._sender = sender
        self._tls = tls

    async def send(self, mail: Mail) -> None:
        """Hand one mail over to the server. Raises MailDelayed, Undeliverable."""
        server = self._server
        try:
            await aiosmtplib.send(
                self._message(mail),
                sender=self._sender,
                recipients=[mail.to],
                hostname=server.host,
                port=server.port,
                username=server.username,
                password=server.password,
                # Its default asks the name service, which may take longer than the mail.
                local_hostname=self._sender.rpartition("@")[2],
                timeout=TIMEOUT_S,
                use_tls=server.security == "tls",
                start_tls=server.security == "starttls",
                tls_context=self._tls or ssl.create_default_context(),
            )
        except aiosmtplib.SMTPRecipientsRefused as refused:
            raise _told(refused, refused.recipients[0].code) from None
        except aiosmtplib.SMTPAuthenticationError as refused:
            raise MailDelayed(_text(refused, refused.code)) from None  # the operator can mend it
        except aiosmtplib.SMTPResponseException as refused:
            raise _told(refused, refused.code) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailDelayed(_text(error, None)) from None

    def _message(self, mail: Mail) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(addr_spec=self._sender)
        message["To"] = Address(addr_spec=mail.to)
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(to_datetime(mail.at))
        message["Message-ID"] = f"<{mail.key}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        return message


def _told(refused: Exception, code: int) -> Exception:
    kind = Undeliverable if code >= _PERMANENT else MailDelayed
    return kind(_text(refused, code))


def _text(error: Exception, code: int | None) -> str:
    return type(error).__name__ if code is None else f"{type(error).__name__} {code}"
