"""Sends a queued alert through its channel, in the channel's language, to the address of now.

In: what is still worth sending, its words, one function for each kind of channel. Out: who is told when (`raise_alerts`), trying again
(`outbox_worker`). Addresses stand in the channel's row alone: not in the outbox, the audit, messages or logs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, tzinfo
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Final, TypeAlias

import msgspec

from licensesvc import __version__
from licensesvc.domain.alerts import Event
from licensesvc.domain.connection import Connection
from licensesvc.domain.delisting import Gauge, Level
from licensesvc.domain.instants import Instant, rfc3339, to_datetime
from licensesvc.outbound.client import OutboundClient, OutboundFailed, OutboundRefused
from licensesvc.services.guard import webhook_template
from licensesvc.services.guard.guard_texts import EVENTS, LEVELS, TEST, WORDS
from licensesvc.services.guard.manage_alert_channels import channel_secret_context
from licensesvc.services.guard.raise_alerts import Notice
from licensesvc.services.mail.mail_code import Language, plain
from licensesvc.services.mail.mailer import Mail, MailDelayed, Mailer, Undeliverable
from licensesvc.services.runtime import Runtime
from licensesvc.storage import alert_channels, alerts, connections
from licensesvc.storage.alert_channels import ChannelKind, StoredChannel
from licensesvc.storage.outbox import OutboxItem
from licensesvc.storage.port import Tx

SENDING_S: Final = 20.0
"""How long one alert may take in its channel: a server that hangs holds its place in the outbox no longer."""
USER_AGENT: Final = f"licensesvc/{__version__}"
_SUCCESS: Final = 2
_NOTHING: Final = "–"


class AlertDelayed(Exception):
    """The channel did not take the alert now; trying again later may work."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """An alert in the words of its channel. `key` is the same for every attempt, so a receiver can tell a repeat."""

    key: str
    channel: StoredChannel
    notice: Notice
    subject: str
    text: str
    first_tried_at: Instant

    def __repr__(self) -> str:
        return f"Outgoing({self.key!r})"


Carrier: TypeAlias = Callable[[Outgoing], Awaitable[None]]
"""Carries alerts for one kind of channel. Raises MailDelayed or AlertDelayed to be tried again, Undeliverable when it never will."""


def carriers(rt: Runtime, mailer: Mailer | None, outbound: OutboundClient | None) -> dict[ChannelKind, Carrier]:
    """The kinds of channels that this server can carry alerts through."""

    async def by_mail(outgoing: Outgoing) -> None:
        if mailer is None:
            raise MailDelayed("smtp_url and mail_from are not set")
        await mailer.send(
            Mail(
                key=outgoing.key,
                to=outgoing.channel.address,
                subject=outgoing.subject,
                text=outgoing.text,
                at=outgoing.first_tried_at,
            )
        )

    async def by_webhook(outgoing: Outgoing) -> None:
        if outbound is None:
            raise AlertDelayed("this process makes no calls")
        channel = outgoing.channel
        headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT, "Idempotency-Key": outgoing.key}
        if channel.secret is not None and channel.secret_header is not None:
            secret = rt.vault.open(channel.secret, channel_secret_context(channel.public_id))
            headers[channel.secret_header] = secret.decode()
        body = webhook_template.fill(channel.template, _values(outgoing))
        try:
            answer = await outbound.post(channel.address, headers=headers, body=body)
        except (OutboundRefused, OutboundFailed) as error:
            raise AlertDelayed(str(error)) from None
        if answer.status == HTTPStatus.GONE:
            raise Undeliverable(f"HTTP {answer.status}")
        if answer.status // 100 != _SUCCESS:  # also a redirect, which is not followed; the operator can mend the row
            raise AlertDelayed(f"HTTP {answer.status}")

    return {ChannelKind.MAIL: by_mail, ChannelKind.WEBHOOK: by_webhook}


def _values(outgoing: Outgoing) -> dict[str, str]:
    """What the placeholders of a template stand for; every one of `webhook_template.PLACEHOLDERS`."""
    notice = outgoing.notice
    return {
        "event": notice.event,
        "alert": notice.alert or "",
        "connection": notice.connection,
        "gauge": notice.gauge or "",
        "level": notice.level,
        "value": "" if notice.value is None else str(notice.value),
        "limit": "" if notice.limit is None else str(notice.limit),
        "opened_at": "" if notice.opened_at is None else rfc3339(notice.opened_at),
        "at": rfc3339(notice.at),
        "recipient": outgoing.channel.recipient or "",
        "subject": outgoing.subject,
        "text": outgoing.text,
    }


async def send_alert(rt: Runtime, by_kind: Mapping[ChannelKind, Carrier], item: OutboxItem) -> None:
    """Send one notice, in `SENDING_S` at most. A channel that is gone, or an alarm that is over, needs no sending."""
    notice = msgspec.json.decode(item.payload, type=Notice)
    outgoing = await rt.db.read(lambda tx: _outgoing(tx, rt, notice, item))
    if outgoing is None:
        return
    try:
        async with asyncio.timeout(SENDING_S):
            await by_kind[outgoing.channel.kind](outgoing)
    except TimeoutError:
        raise AlertDelayed(f"the channel took longer than {SENDING_S:g} s") from None


async def _outgoing(tx: Tx, rt: Runtime, notice: Notice, item: OutboxItem) -> Outgoing | None:
    channel = await alert_channels.by_public_id(tx, notice.channel)
    if channel is None:
        return None
    connection = None
    if notice.alert is not None:
        stored = await alerts.by_public_id(tx, notice.alert)
        if stored is None:
            return None  # over for so long that it was deleted
        if notice.event != Event.CLEARED and stored.alert.level is Level.OK:
            return None  # it waited until it was over: the news that it is follows
        connection = (await connections.by_id(tx, stored.connection_id)).connection
    subject, text = compose(Language(channel.language), notice, connection)
    return Outgoing(
        key=f"{notice.alert or notice.channel}.{item.id}",
        channel=channel,
        notice=notice,
        subject=subject,
        text=text,
        first_tried_at=rt.clock() if item.first_tried_at is None else item.first_tried_at,
    )


def compose(language: Language, notice: Notice, connection: Connection | None) -> tuple[str, str]:
    """Subject and text of a notice; a test (`connection` None) shows the texts of one gauge."""
    template = (
        files("licensesvc.services.mail")
        .joinpath("mail_templates", f"alert.{language}.txt")
        .read_text(encoding="utf-8")
    )
    test = connection is None
    words = WORDS[notice.gauge or Gauge.FAILED_ORDERS][language]
    zone: tzinfo = UTC if connection is None else connection.calendar
    subject, _, text = (
        Template(template)
        .substitute(
            level=LEVELS[language][notice.level],
            title=words.title,
            connection=_NOTHING if connection is None else plain(connection.name),
            headline=TEST[language] if test else EVENTS[language][Event(notice.event)],
            value=_NOTHING if notice.value is None else notice.value,
            limit=_NOTHING if notice.limit is None else notice.limit,
            since=_time(notice.opened_at, zone),
            at=_time(notice.at, zone),
            meaning=words.meaning,
            action=words.action,
            alert=notice.alert or _NOTHING,
        )
        .partition("\n")
    )
    return subject, text


def _time(instant: Instant | None, zone: tzinfo) -> str:
    return _NOTHING if instant is None else to_datetime(instant, zone).isoformat(sep=" ", timespec="minutes")
