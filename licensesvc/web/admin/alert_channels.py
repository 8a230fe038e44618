"""`/alert-channels`: where alerts go. Addresses are people's: who may only read does not see them."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from licensesvc.domain.delisting import Level
from licensesvc.domain.errors import MailNotConfigured, NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.outbound.addresses import Policy
from licensesvc.services.guard.manage_alert_channels import (
    ChangeChannel,
    CreateChannel,
    change_channel,
    create_channel,
    delete_channel,
    test_channel,
)
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage import alert_channels
from licensesvc.storage.alert_channels import ChannelKind, StoredChannel
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, OWNER
from licensesvc.web.admin.answers import IdempotencyKey, IfMatch, Name, PublicId, Time, etag, perform, version_of
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class ChannelView(msgspec.Struct, frozen=True, kw_only=True):
    """A channel: alerts from `least_level` on go to `address`. Its secret is not shown."""

    id: str
    name: str
    kind: ChannelKind
    address: str
    language: str
    least_level: Level
    recipient: str | None
    template: dict[str, Any] | None
    secret_header: str | None
    has_secret: bool
    created_at: Time
    version: int

    def __repr__(self) -> str:
        return f"ChannelView({self.id})"


def _view(stored: StoredChannel) -> ChannelView:
    return ChannelView(
        id=stored.public_id,
        name=stored.name,
        kind=stored.kind,
        address=stored.address,
        language=stored.language,
        least_level=stored.least_level,
        recipient=stored.recipient,
        template=None if stored.template is None else msgspec.json.decode(stored.template),
        secret_header=stored.secret_header,
        has_secret=stored.secret is not None,
        created_at=rfc3339(stored.created_at),
        version=stored.version,
    )


def _policy(settings: Settings) -> Policy:
    return Policy(allowed=settings.reachable_networks)


def _tagged(stored: StoredChannel, status: int = 200) -> Response[ChannelView]:
    return Response(_view(stored), headers=etag(stored.version), status_code=status)


@post(
    "/alert-channels",
    opt=OWNER,
    operation_id="createAlertChannel",
    responses=problems(*JSON_BODY, "INVALID_PARAMETER", "ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED"),
)
async def add_channel(
    request: JSONRequest,
    data: JSONBody[CreateChannel],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    idempotency_key: IdempotencyKey = None,
) -> Response[ChannelView]:
    """Add a channel."""

    async def verb(tx: Tx) -> ChannelView:
        return _view(await create_channel(tx, runtime, data, _policy(settings), by=request.user.name))

    return await perform(request, runtime, idempotency_key, verb)


@get("/alert-channels", opt=OPERATOR, operation_id="listAlertChannels", responses=problems("INVALID_CURSOR"))
async def list_channels(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    name: Name = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[ChannelView]]:
    """List channels, the oldest first."""
    where = EVERYTHING.given("c.name = {}", name)

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, ChannelView]]:
        found = await alert_channels.page(tx, after=after, limit=count, where=where)
        return [(stored.id, _view(stored)) for stored in found]

    return await page_of(request, runtime.db, "alert-channels", cursor=cursor, limit=limit, fetch=fetch)


@get("/alert-channels/{channel_id:str}", opt=OPERATOR, operation_id="getAlertChannel", responses=problems("NOT_FOUND"))
async def get_channel(channel_id: PublicId, runtime: NamedDependency[Runtime]) -> Response[ChannelView]:
    """Return a channel; its `ETag` goes into the `If-Match` of a change."""
    return _tagged(await _known(runtime, channel_id))


@patch(
    "/alert-channels/{channel_id:str}",
    opt=OWNER,
    operation_id="changeAlertChannel",
    responses=problems(
        "NOT_FOUND", "PRECONDITION_REQUIRED", "STALE_VERSION", *JSON_BODY, "INVALID_PARAMETER", "ALREADY_EXISTS"
    ),
)
async def update_channel(
    request: JSONRequest,
    channel_id: PublicId,
    data: JSONBody[ChangeChannel],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    if_match: IfMatch = None,
) -> Response[ChannelView]:
    """Change the fields that are given, if nobody has changed the channel since it was read."""
    version = version_of(if_match)
    stored = await runtime.db.write(
        lambda tx: change_channel(tx, runtime, channel_id, version, data, _policy(settings), by=request.user.name)
    )
    return _tagged(stored)


@post(
    "/alert-channels/{channel_id:str}/test",
    status_code=202,
    opt=OPERATOR,
    operation_id="testAlertChannel",
    responses=problems("NOT_FOUND", "MAIL_NOT_CONFIGURED"),
)
async def try_channel(
    request: Request[Any, Any, Any],
    channel_id: PublicId,
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
) -> Response[ChannelView]:
    """Send a test alert, soon after the answer."""
    stored = await _known(runtime, channel_id)
    if stored.kind is ChannelKind.MAIL and not (settings.smtp_url and settings.mail_from):
        raise MailNotConfigured
    await runtime.db.write(lambda tx: test_channel(tx, runtime, channel_id, by=request.user.name))
    return _tagged(stored, 202)


@delete(
    "/alert-channels/{channel_id:str}", opt=OWNER, operation_id="deleteAlertChannel", responses=problems("NOT_FOUND")
)
async def remove_channel(
    request: Request[Any, Any, Any], channel_id: PublicId, runtime: NamedDependency[Runtime]
) -> None:
    """Remove a channel with its address; what still waits for it is not sent."""
    await runtime.db.write(lambda tx: delete_channel(tx, runtime, channel_id, by=request.user.name))


async def _known(rt: Runtime, channel_id: str) -> StoredChannel:
    stored = await rt.db.read(lambda tx: alert_channels.by_public_id(tx, channel_id))
    if stored is None:
        raise NotFound
    return stored


ROUTES: Final = (add_channel, list_channels, get_channel, update_channel, try_channel, remove_channel)
