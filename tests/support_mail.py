"""A real SMTP server for tests, and mail to send to it."""

import asyncio
import email
import email.policy
from contextlib import asynccontextmanager

from aiosmtpd.smtp import SMTP, AuthResult, syntax

from licensesvc.services.mail.mailer import Mail, Mailer, mail_server

ADDRESS = "canary.buyer@example.com"
NAME = "name-canary"
SENDER = "licenses@seller.example"


class Inbox:
    """Keeps what it accepts; answers as it is told."""

    def __init__(self):
        self.mails = []
        self.rcpt = "250 OK"
        self.data = "250 OK"
        self.encrypted = []
        self.users = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.data.startswith("250"):
            self.mails.append((envelope, email.message_from_bytes(envelope.content, policy=email.policy.default)))
            self.encrypted.append(session.ssl is not None)
        return self.data

    def authenticate(self, server, session, envelope, mechanism, auth_data):
        self.users.append((auth_data.login, auth_data.password))
        return AuthResult(success=auth_data.password == b"p@ss", handled=False)


class RefusesTls(SMTP):
    """Offers STARTTLS and then will not do it."""

    @syntax("STARTTLS")
    async def smtp_STARTTLS(self, _arg):  # noqa: N802
        await self.push("454 TLS not available due to temporary reason")


@asynccontextmanager
async def serving(inbox, *, kind=SMTP, tls=None, tls_context=None, **options):
    """The port of a mail server."""
    loop = asyncio.get_running_loop()
    connections = []

    def connect():
        connections.append(kind(inbox, hostname="mail.example", loop=loop, tls_context=tls_context, **options))
        return connections[-1]

    server = await loop.create_server(connect, "localhost", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in connections:
            if connection.transport is not None:
                connection.transport.close()
        await server.wait_closed()


def a_mailer(port, scheme="smtp+plain", user="", tls=None):
    return Mailer(mail_server(f"{scheme}://{user}localhost:{port}"), SENDER, tls=tls)


def a_mail(**changed):
    fields = {"key": "lic_1.1", "to": ADDRESS, "subject": "s", "text": "t\n", "at": 1_795_000_000_000, **changed}
    return Mail(**fields)
