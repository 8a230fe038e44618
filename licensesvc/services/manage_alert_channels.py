"""Channels of alerts: added, changed, removed and tried out by administrators. Their addresses stand in their rows alone."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.delisting import Level
from licensesvc.domain.errors import InvalidParameter, NotFound, StaleVersion
from licensesvc.services.mail_code import MAIL_ADDRESS, Language
from licensesvc.services.raise_alerts import MAX_CHANNELS, Notice, queue
from licensesvc.services.runtime import Runtime
from licensesvc.storage import alert_channels, audit
from licensesvc.storage.alert_channels import ChannelKind, StoredChannel
from licensesvc.storage.port import Tx

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=100, examples=["on call"])]
Address: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=320, examples=["ops@seller.example"])]
LeastLevel: TypeAlias = Literal["warn", "critical"]

_ADDRESS_RULE: Final = "address must be one mail address"


class CreateChannel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where alerts from `least_level` on go, and in which language."""

    name: Name
    kind: Literal["mail"]
    address: Address
    language: Language = Language.CHINESE
    least_level: LeastLevel = "warn"

    def __repr__(self) -> str:
        return f"CreateChannel({self.name!r})"


class ChangeChannel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a channel; a field left out stays."""

    name: Name | UnsetType = UNSET
    address: Address | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    least_level: LeastLevel | UnsetType = UNSET

    def __repr__(self) -> str:
        return "ChangeChannel(…)"


def channel_secret_context(public_id: str) -> str:
    """What the vault binds the secret of a channel to."""
    return f"alert_channel:{public_id}:secret"


async def create_channel(tx: Tx, rt: Runtime, command: CreateChannel, *, by: str) -> StoredChannel:
    """Add a channel. Raises InvalidParameter; a name that exists already violates a UNIQUE constraint."""
    if len(await alert_channels.page(tx, after=0, limit=MAX_CHANNELS)) >= MAX_CHANNELS:
        raise InvalidParameter(f"there are {MAX_CHANNELS} channels already: remove one first")
    now = rt.clock()
    channel = StoredChannel(
        id=0,
        public_id=rt.new_id(ids.ALERT_CHANNEL, now),
        name=command.name,
        kind=ChannelKind(command.kind),
        language=command.language,
        least_level=Level(command.least_level),
        address=_checked(command.address),
        created_at=now,
    )
    await alert_channels.insert(tx, channel)
    detail: dict[str, str | int | None] = {
        "kind": channel.kind,
        "language": channel.language,
        "least_level": channel.least_level,
    }
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="alert_channel.created", subject=channel.public_id, detail=detail)]
    )
    return await _known(tx, channel.public_id)


async def change_channel(
    tx: Tx, rt: Runtime, public_id: str, version: int, command: ChangeChannel, *, by: str
) -> StoredChannel:
    """Change a channel that still has this `version`. Raises NotFound, StaleVersion, InvalidParameter."""
    channel = await _known(tx, public_id)
    given = {name: value for name in command.__struct_fields__ if (value := getattr(command, name)) is not UNSET}
    fields = " ".join(given)
    if "address" in given:
        given["address"] = _checked(given["address"])
    if "least_level" in given:
        given["least_level"] = Level(given["least_level"])
    if not await alert_channels.update(tx, msgspec.structs.replace(channel, version=version, **given)):
        raise StaleVersion
    detail: dict[str, str | int | None] = {"fields": fields, "version": version + 1}
    await audit.append(
        tx, [AuditEvent(at=rt.clock(), actor=by, kind="alert_channel.changed", subject=public_id, detail=detail)]
    )
    return await _known(tx, public_id)


async def delete_channel(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> None:
    """Remove a channel and what it knows of people; what waits for it is not sent. Raises NotFound."""
    if not await alert_channels.delete(tx, public_id):
        raise NotFound
    await audit.append(
        tx, [AuditEvent(at=rt.clock(), actor=by, kind="alert_channel.deleted", subject=public_id, detail={})]
    )


async def test_channel(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> StoredChannel:
    """Queue a test alert. Raises NotFound."""
    channel = await _known(tx, public_id)
    now = rt.clock()
    await queue(tx, Notice(channel=public_id, event="test", at=now), now)
    await audit.append(tx, [AuditEvent(at=now, actor=by, kind="alert_channel.tested", subject=public_id, detail={})])
    return channel


async def _known(tx: Tx, public_id: str) -> StoredChannel:
    channel = await alert_channels.by_public_id(tx, public_id)
    if channel is None:
        raise NotFound
    return channel


def _checked(address: str) -> str:
    if not MAIL_ADDRESS.fullmatch(address):
        raise InvalidParameter(_ADDRESS_RULE)
    return address
