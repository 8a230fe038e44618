"""Webhook endpoints: who is told, of what, signed how; made, changed, switched, tested and sent to again.

In: the verbs of the admin API. Out: sending. Every change is compare-and-swap and tells the audit.
"""

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import EndpointDisabled, InvalidParameter, NotFound, StaleVersion
from licensesvc.domain.instants import HOUR, parse_rfc3339, rfc3339
from licensesvc.domain.webhook_attempts import Why
from licensesvc.domain.webhook_events import ALL, CATALOGUE, MAX_FILTERS, PING, is_filter, matches, payload
from licensesvc.outbound.addresses import OutboundRefused, Policy
from licensesvc.outbound.targets import MAX_URL, parse_target
from licensesvc.services.runtime import Runtime
from licensesvc.services.webhooks.feed_webhooks import MAX_ENDPOINTS, MOST_OPEN, deliveries_of
from licensesvc.services.webhooks.send_webhook import disable, secret_context
from licensesvc.signing.webhook_signature import SignatureKind, WebhookSecret, new_secret
from licensesvc.storage import audit, webhook_deliveries, webhook_endpoints
from licensesvc.storage.audit import BEGINNING
from licensesvc.storage.port import Tx
from licensesvc.storage.webhook_deliveries import NewDelivery, StoredDelivery
from licensesvc.storage.webhook_endpoints import StoredEndpoint, StoredSecret
from licensesvc.storage.where import EVERYTHING

OVERLAP_HOURS: Final = 24
"""How long the old secrets sign beside new ones, unless told otherwise."""
MOST_SECRETS: Final = 4
"""Secrets of one kind that sign at the same time."""
REPLAYED_AT_ONCE: Final = 500
"""Events that one call sends again."""

Url: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=MAX_URL, examples=["https://hooks.example/licenses"])
]
Description: TypeAlias = Annotated[str, msgspec.Meta(max_length=200)]
Filters: TypeAlias = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=64)], ...],
    msgspec.Meta(
        min_length=1,
        max_length=MAX_FILTERS,
        description="types, `group.*` or `*`",
        examples=[["license.*", "order.received"]],
    ),
]
Signatures: TypeAlias = Annotated[tuple[SignatureKind, ...], msgspec.Meta(min_length=1, max_length=2)]


class CreateEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receiver of messages about events from now on; `signatures`: `v1` HMAC-SHA256 with the secret, `v1a` Ed25519."""

    url: Url
    events: Filters = (ALL,)
    description: Description = ""
    signatures: Signatures = (SignatureKind.HMAC,)


class ChangeEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of an endpoint; a field left out stays. Deliveries that wait go to the new URL."""

    url: Url | UnsetType = UNSET
    events: Filters | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    signatures: Signatures | UnsetType = UNSET


class RotateSecret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For how long messages bear the signatures of the old secrets too."""

    overlap_hours: Annotated[int, msgspec.Meta(ge=0, le=168)] = OVERLAP_HOURS


class EnableEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether to leave out what happened in between; otherwise it is sent now, in order."""

    skip_missed: bool = False


class ReplaySince(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Send the events since this time (RFC 3339) again."""

    since: Annotated[str, msgspec.Meta(max_length=40, examples=["2026-11-23T16:00:00.000Z"])]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries were added; `next_since` = where to go on, null at the end."""

    queued: int
    next_since: str | None


async def create_endpoint(
    tx: Tx, rt: Runtime, policy: Policy, command: CreateEndpoint, *, by: str
) -> tuple[StoredEndpoint, WebhookSecret]:
    """Add an endpoint and return it with its `v1` secret, which is stored sealed. Raises InvalidParameter."""
    if len(await webhook_endpoints.page(tx, after=0, limit=MAX_ENDPOINTS)) == MAX_ENDPOINTS:
        raise InvalidParameter(f"there are {MAX_ENDPOINTS} endpoints already: delete one")
    now = rt.clock()
    endpoint = StoredEndpoint(
        id=0,
        public_id=rt.new_id(ids.WEBHOOK_ENDPOINT, now),
        url=_checked_url(command.url, policy),
        description=command.description,
        events=_checked_filters(command.events),
        signatures=_signatures(command.signatures),
        created_at=now,
    )
    endpoint = msgspec.structs.replace(endpoint, id=await webhook_endpoints.insert(tx, endpoint))
    await webhook_endpoints.skip_to(tx, endpoint.id, await audit.heads(tx))
    secret = await _add_secrets(tx, rt, endpoint)
    await _note(tx, rt, endpoint, "created", by, {"events": " ".join(command.events)})
    return endpoint, secret


async def change_endpoint(
    tx: Tx, rt: Runtime, policy: Policy, public_id: str, version: int, command: ChangeEndpoint, *, by: str
) -> StoredEndpoint:
    """Change an endpoint that still has this `version`. Raises NotFound, StaleVersion, InvalidParameter."""
    endpoint = await known(tx, public_id)
    given = {name: value for name in command.__struct_fields__ if (value := getattr(command, name)) is not UNSET}
    if "url" in given:
        given["url"] = _checked_url(given["url"], policy)
    if "events" in given:
        given["events"] = _checked_filters(given["events"])
    if "signatures" in given:
        given["signatures"] = _signatures(given["signatures"])
    if not await webhook_endpoints.update(tx, msgspec.structs.replace(endpoint, **given, version=version)):
        raise StaleVersion
    await _note(tx, rt, endpoint, "changed", by, {"fields": " ".join(given), "version": version + 1})
    return await known(tx, public_id)


async def delete_endpoint(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> None:
    """Delete an endpoint with its secrets; what is open for it is given up, its log goes with time. Raises NotFound."""
    endpoint = await known(tx, public_id)
    now = rt.clock()
    deleted = await webhook_endpoints.delete(tx, endpoint, now)
    assert deleted  # it is locked
    dropped = await webhook_deliveries.give_up_all(tx, endpoint.id, now)
    await _note(tx, rt, endpoint, "deleted", by, {"dropped": dropped})


async def disable_endpoint(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> StoredEndpoint:
    """Send nothing any more until the endpoint is enabled; doing it twice is fine. Raises NotFound."""
    endpoint = await known(tx, public_id)
    if endpoint.disabled_at is None:
        now = rt.clock()
        changed = msgspec.structs.replace(endpoint, disabled_at=now, disabled_why=Why.OPERATOR)
        await disable(tx, changed, by=by, now=now)
    return await known(tx, public_id)


async def enable_endpoint(tx: Tx, rt: Runtime, public_id: str, command: EnableEndpoint, *, by: str) -> StoredEndpoint:
    """Send again, from where the sending stopped or from now on; doing it twice is fine. Raises NotFound."""
    endpoint = await known(tx, public_id)
    if endpoint.disabled_at is None:
        return endpoint
    changed = msgspec.structs.replace(
        endpoint, disabled_at=None, disabled_why=None, failing_since=None, paused_until=None
    )
    stored = await webhook_endpoints.update(tx, changed)
    assert stored  # it is locked
    skipped = 0
    if command.skip_missed:
        await webhook_endpoints.skip_to(tx, endpoint.id, await audit.heads(tx))
        skipped = await webhook_deliveries.give_up_all(tx, endpoint.id, rt.clock())
    await _note(tx, rt, endpoint, "enabled", by, {"skip_missed": int(command.skip_missed), "dropped": skipped})
    return await known(tx, public_id)


async def rotate_secret(
    tx: Tx, rt: Runtime, public_id: str, command: RotateSecret, *, by: str
) -> tuple[StoredEndpoint, WebhookSecret]:
    """Give an endpoint new secrets, both kinds; the old ones sign on for a while. Raises NotFound, InvalidParameter."""
    endpoint = await known(tx, public_id)
    now = rt.clock()
    await webhook_endpoints.end_secrets(tx, endpoint.id, ends_at=now + command.overlap_hours * HOUR, now=now)
    live = await webhook_endpoints.secrets(tx, [endpoint.id], now)
    if sum(secret.kind == SignatureKind.HMAC for secret in live) >= MOST_SECRETS:
        raise InvalidParameter(f"{MOST_SECRETS} secrets sign already: wait until one of them ends")
    secret = await _add_secrets(tx, rt, endpoint)
    await _note(tx, rt, endpoint, "secret_rotated", by, {"overlap_hours": command.overlap_hours})
    return endpoint, secret


async def send_ping(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> StoredDelivery:
    """Queue a message of type `ping`, whatever the endpoint's filter. Raises NotFound, EndpointDisabled, InvalidParameter."""
    endpoint = await _receiving(tx, public_id)
    now = rt.clock()
    new = NewDelivery(
        public_id=rt.new_id(ids.DELIVERY, now),
        endpoint_id=endpoint.id,
        message_id=rt.new_id(ids.MESSAGE, now),
        type=PING,
        subject=endpoint.public_id,
        payload=payload(PING, now, {"endpoint": endpoint.public_id}),
    )
    await webhook_deliveries.add(tx, [new], now)
    await _note(tx, rt, endpoint, "tested", by, {"delivery": new.public_id})
    return await _delivery(tx, new.public_id)


async def replay_delivery(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> StoredDelivery:
    """Send a message again: a delivery of its own, with the same `webhook-id`. Raises NotFound, EndpointDisabled, InvalidParameter."""
    old = await _delivery(tx, public_id)
    endpoint = await webhook_endpoints.by_id(tx, old.endpoint_id)
    if endpoint is None:
        raise NotFound
    endpoint = await _receiving(tx, endpoint.public_id)
    now = rt.clock()
    new = NewDelivery(
        public_id=rt.new_id(ids.DELIVERY, now),
        endpoint_id=endpoint.id,
        message_id=old.message_id,
        type=old.type,
        subject=old.subject,
        payload=old.payload,
    )
    await webhook_deliveries.add(tx, [new], now)
    await _note(tx, rt, endpoint, "replayed", by, {"delivery": old.public_id, "queued": 1})
    return await _delivery(tx, new.public_id)


async def replay_since(tx: Tx, rt: Runtime, public_id: str, command: ReplaySince, *, by: str) -> Replayed:
    """Send events again that the endpoint's filter lets through, `REPLAYED_AT_ONCE` at most, with the same `webhook-id`s.

    Raises NotFound, EndpointDisabled, InvalidParameter.
    """
    since = parse_rfc3339(command.since)
    endpoint = await _receiving(tx, public_id)
    kinds = sorted(f"'{known.kind}'" for known in CATALOGUE.values() if matches(endpoint.events, known.type))
    where = EVERYTHING.always(f"e.kind IN ({', '.join(kinds)})")
    # Only what the cursors have passed: the rest is sent anyway.
    where = where.given(
        "e.seq <= COALESCE((SELECT c.seq FROM webhook_cursors c WHERE c.endpoint_id = {} AND c.chain = e.chain), 0)",
        endpoint.id,
    )
    rows = await audit.search(tx, after=(since, *BEGINNING[1:]), limit=REPLAYED_AT_ONCE + 1, where=where)
    now = rt.clock()
    new = deliveries_of(rt, endpoint, rows[:REPLAYED_AT_ONCE], now)
    await webhook_deliveries.add(tx, new, now)
    await _note(tx, rt, endpoint, "replayed", by, {"since": rfc3339(since), "queued": len(new)})
    following = rfc3339(rows[-1].event.at) if len(rows) > REPLAYED_AT_ONCE else None
    return Replayed(queued=len(new), next_since=following)


async def known(tx: Tx, public_id: str) -> StoredEndpoint:
    """The endpoint, locked; NotFound."""
    endpoint = await webhook_endpoints.by_public_id(tx, public_id, lock=True)
    if endpoint is None:
        raise NotFound
    return endpoint


async def _receiving(tx: Tx, public_id: str) -> StoredEndpoint:
    endpoint = await known(tx, public_id)
    if endpoint.disabled_at is not None:
        raise EndpointDisabled
    work = (await webhook_deliveries.open_work(tx, [endpoint.id])).get(endpoint.id)
    if work is not None and work.waiting >= MOST_OPEN:
        raise InvalidParameter(f"{work.waiting} deliveries to this endpoint are open already")
    return endpoint


async def _delivery(tx: Tx, public_id: str) -> StoredDelivery:
    delivery = await webhook_deliveries.by_public_id(tx, public_id)
    if delivery is None:
        raise NotFound
    return delivery


async def _add_secrets(tx: Tx, rt: Runtime, endpoint: StoredEndpoint) -> WebhookSecret:
    """Both kinds, so that `signatures` may change without a new secret; return the one that is shown."""
    now = rt.clock()
    shared = new_secret(SignatureKind.HMAC, rt.entropy)
    for secret in (shared, new_secret(SignatureKind.ED25519, rt.entropy)):
        public_id = rt.new_id(ids.WEBHOOK_SECRET, now)
        stored = StoredSecret(
            public_id=public_id,
            endpoint_id=endpoint.id,
            kind=secret.kind,
            sealed=rt.vault.seal(secret.raw, secret_context(public_id)),
            public_key=secret.public_key,
            created_at=now,
        )
        await webhook_endpoints.add_secret(tx, stored)
    return shared


async def _note(
    tx: Tx, rt: Runtime, endpoint: StoredEndpoint, what: str, by: str, detail: dict[str, str | int | None]
) -> None:
    event = AuditEvent(
        at=rt.clock(), actor=by, kind=f"webhook_endpoint.{what}", subject=endpoint.public_id, detail=detail
    )
    await audit.append(tx, [event])


def _checked_url(url: str, policy: Policy) -> str:
    try:
        parse_target(url, policy)
    except OutboundRefused as refused:
        raise InvalidParameter(f"url: {refused}") from None
    return url


def _checked_filters(filters: tuple[str, ...]) -> tuple[str, ...]:
    for text in filters:
        if not is_filter(text):
            raise InvalidParameter("events: there is no type or group of this name; see the event catalogue")
    return tuple(dict.fromkeys(filters))


def _signatures(kinds: tuple[SignatureKind, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(kind.value for kind in kinds))
