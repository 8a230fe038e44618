"""Sends a queued alert through its channel, in the channel's language, to the address of now.

In: what is still worth sending, its words, one function for each kind of channel. Out: who is told when (`raise_alerts`), trying again
(`outbox_worker`). Addresses stand in the channel's row alone: not in the outbox, the audit, messages or logs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, tzinfo
from importlib.resources import files
from string import Template
from typing import Final, TypeAlias

import msgspec

from licensesvc.domain.alerts import Event
from licensesvc.domain.connection import Connection
from licensesvc.domain.delisting import Gauge, Level
from licensesvc.domain.instants import Instant, to_datetime
from licensesvc.services.guard_texts import EVENTS, LEVELS, TEST, WORDS
from licensesvc.services.mail_code import Language, plain
from licensesvc.services.mailer import Mail, MailDelayed, Mailer
from licensesvc.services.raise_alerts import Notice
from licensesvc.services.runtime import Runtime
from licensesvc.storage import alert_channels, alerts, connections
from licensesvc.storage.alert_channels import ChannelKind, StoredChannel
from licensesvc.storage.outbox import OutboxItem
from licensesvc.storage.port import Tx

SENDING_S: Final = 20.0
"""How long one alert may take in its channel: a server that hangs holds its place in the outbox no longer."""
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


def carriers(mailer: Mailer | None) -> dict[ChannelKind, Carrier]:
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

    return {ChannelKind.MAIL: by_mail}


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
    template = files(__package__).joinpath("mail_templates", f"alert.{language}.txt").read_text(encoding="utf-8")
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
