"""Channels of alerts: added, changed, removed and tried out by administrators. Their addresses stand in their rows alone."""

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.delisting import Level
from licensesvc.domain.errors import InvalidParameter, NotFound, StaleVersion
from licensesvc.outbound.addresses import OutboundRefused, Policy
from licensesvc.outbound.targets import parse_target
from licensesvc.services.guard import webhook_template
from licensesvc.services.guard.raise_alerts import MAX_CHANNELS, Notice, queue
from licensesvc.services.mail.mail_code import MAIL_ADDRESS, Language
from licensesvc.services.runtime import Runtime
from licensesvc.storage import alert_channels, audit
from licensesvc.storage.alert_channels import ChannelKind, StoredChannel
from licensesvc.storage.port import Tx

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=100, examples=["on call"])]
Address: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=1_000,
        description="a mail address, or the https:// URL of a webhook or gateway",
        examples=["ops@seller.example"],
    ),
]
LeastLevel: TypeAlias = Literal["warn", "critical"]
Recipient: TypeAlias = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$", description="what $recipient stands for"),
]
BodyTemplate: TypeAlias = Annotated[
    dict[str, Any],
    msgspec.Meta(description="JSON body of a webhook with placeholders like $text; null = the default one"),
]
HeaderName: TypeAlias = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9-]*$(?!\n)")]
Secret: TypeAlias = Annotated[str, msgspec.Meta(max_length=1_024, pattern=r"^[!-~]+( [!-~]+)*$(?!\n)")]

_OWN_HEADERS: Final = frozenset(
    {
        *("host", "content-length", "content-type", "transfer-encoding", "connection", "user-agent", "idempotency-key"),
        *("te", "trailer", "upgrade", "expect", "accept-encoding", "proxy-connection", "keep-alive"),
    }
)
_WEBHOOK_ONLY: Final = ("recipient", "template", "secret_header", "secret")


class CreateChannel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where alerts from `least_level` on go, and in which language. The fields from `recipient` on are for webhooks.

    `secret` is sent in the header `secret_header` and never shown again.
    """

    name: Name
    kind: ChannelKind
    address: Address
    language: Language = Language.CHINESE
    least_level: LeastLevel = "warn"
    recipient: Recipient | None = None
    template: BodyTemplate | None = None
    secret_header: HeaderName | None = None
    secret: Secret | None = None

    def __repr__(self) -> str:
        return f"CreateChannel({self.name!r})"


class ChangeChannel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a channel; a field left out stays, null empties it."""

    name: Name | UnsetType = UNSET
    address: Address | UnsetType = UNSET
    language: Language | UnsetType = UNSET
    least_level: LeastLevel | UnsetType = UNSET
    recipient: Recipient | UnsetType | None = UNSET
    template: BodyTemplate | UnsetType | None = UNSET
    secret_header: HeaderName | UnsetType | None = UNSET
    secret: Secret | UnsetType | None = UNSET

    def __repr__(self) -> str:
        return "ChangeChannel(…)"


def channel_secret_context(public_id: str) -> str:
    """What the vault binds the secret of a channel to."""
    return f"alert_channel:{public_id}:secret"


async def create_channel(tx: Tx, rt: Runtime, command: CreateChannel, policy: Policy, *, by: str) -> StoredChannel:
    """Add a channel. Raises InvalidParameter; a name that exists already violates a UNIQUE constraint."""
    if len(await alert_channels.page(tx, after=0, limit=MAX_CHANNELS)) >= MAX_CHANNELS:
        raise InvalidParameter(f"there are {MAX_CHANNELS} channels already: remove one first")
    now = rt.clock()
    public_id = rt.new_id(ids.ALERT_CHANNEL, now)
    given = msgspec.structs.asdict(command)
    channel = StoredChannel(id=0, public_id=public_id, created_at=now, **_stored(rt, public_id, given))
    await alert_channels.insert(tx, _consistent(channel, policy))
    detail: dict[str, str | int | None] = {
        "kind": channel.kind,
        "language": channel.language,
        "least_level": channel.least_level,
    }
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="alert_channel.created", subject=public_id, detail=detail)]
    )
    return await _known(tx, public_id)


async def change_channel(
    tx: Tx, rt: Runtime, public_id: str, version: int, command: ChangeChannel, policy: Policy, *, by: str
) -> StoredChannel:
    """Change a channel that still has this `version`. Raises NotFound, StaleVersion, InvalidParameter."""
    channel = await _known(tx, public_id)
    given = {name: value for name in command.__struct_fields__ if (value := getattr(command, name)) is not UNSET}
    changed = msgspec.structs.replace(channel, version=version, **_stored(rt, public_id, given))
    if not await alert_channels.update(tx, _consistent(changed, policy)):
        raise StaleVersion
    detail: dict[str, str | int | None] = {"fields": " ".join(given), "version": version + 1}
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


def _stored(rt: Runtime, public_id: str, given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a command as the row keeps them."""
    fields = dict(given)
    if "least_level" in fields:
        fields["least_level"] = Level(fields["least_level"])
    if fields.get("template") is not None:
        fields["template"] = webhook_template.checked(fields["template"])
    if fields.get("secret") is not None:
        fields["secret"] = rt.vault.seal(fields["secret"].encode(), channel_secret_context(public_id))
    return fields


def _consistent(channel: StoredChannel, policy: Policy) -> StoredChannel:
    """The channel, if its fields fit its kind; InvalidParameter otherwise, which quotes no address."""
    if channel.kind is ChannelKind.MAIL:
        if not MAIL_ADDRESS.fullmatch(channel.address):
            raise InvalidParameter("address must be one mail address")
        if any(getattr(channel, name) is not None for name in _WEBHOOK_ONLY):
            raise InvalidParameter(f"{', '.join(_WEBHOOK_ONLY)} are for channels of kind webhook")
        return channel
    try:
        parse_target(channel.address, policy)
    except OutboundRefused as refused:
        raise InvalidParameter(f"address: {refused}") from None
    if (channel.secret is None) != (channel.secret_header is None):
        raise InvalidParameter("secret and secret_header belong together")
    if channel.secret_header is not None and channel.secret_header.lower() in _OWN_HEADERS:
        raise InvalidParameter("this secret_header is one that the server sets itself")
    return channel
