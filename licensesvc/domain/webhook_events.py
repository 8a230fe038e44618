"""What the outside is told: which audit events become webhook messages, under which type, with which facts.

In: the catalogue, composing a message, matching filters. Out: sending. Facts are taken by name from an event, never as a whole: reasons and
other free text stay inside, and an event that the catalogue lacks is not sent.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from licensesvc.domain.audit import AuditRow
from licensesvc.domain.crockford import encode
from licensesvc.domain.ids import ULID_LENGTH
from licensesvc.domain.instants import Instant, rfc3339

ALL: Final = "*"
PING: Final = "ping"
"""Sent when an operator tests an endpoint, whatever its filter."""
MAX_FILTERS: Final = 64

_HASH_BITS: Final = 256
_ID_BITS: Final = 5 * ULID_LENGTH


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """A type of message: the audit event that it tells of, and its `data`.

    `subject` names the id of the event's subject; `facts` are the details that go along, `times` those that are instants. Messages about
    one subject keep their order; `ordered_by` names another detail to order by.
    """

    kind: str
    type: str
    told: str
    subject: str
    facts: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    ordered_by: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as every endpoint gets it; `id` is the same for the same event, whenever and wherever it is sent."""

    id: str
    type: str
    subject: str
    payload: str


def _same(kind: str, told: str, *facts: str, subject: str = "license", times: tuple[str, ...] = ()) -> EventType:
    return EventType(kind=kind, type=kind, told=told, subject=subject, facts=facts, times=times)


_CASE_STEP: Final = ("from", "to", "source")

CATALOGUE: Final[Mapping[str, EventType]] = {
    known.kind: known
    for known in (
        _same("order.received", "an order came in for the first time", "order", "type", "source", subject="our_order"),
        _same("license.issued", "a license with its code was made for an order line", "order", "line", "product"),
        _same(
            "license.activated",
            "software used the license for the first time; its supervision case, if it has one, moved to `node`",
            "case",
            "node",
            times=("service_start", "expires_at"),
        ),
        _same("license.terms_learned", "a later source told more about the order", "seats", times=("order_time", "expires_at")),
        _same("license.suspended", "the seller suspended the license"),
        _same("license.reinstated", "the suspension ended"),
        _same("license.revoked", "the license ended for good"),
        _same("license.renewed", "a period was added", "from", "to"),
        _same("license.expiry_moved", "the license ends at another time", "from", "to"),
        _same("license.quantity_changed", "the license has another number of seats", "from", "to"),
        _same("license.code_replaced", "the license has another code; the old one is unknown from now on"),
        _same("license.released", "the resource was released on the marketplace"),
        _same("license.frozen", "the marketplace froze the license"),
        _same("license.unfrozen", "the marketplace ended the freeze"),
        _same("license.refreshed", "the marketplace renewed the resource or moved its end"),
        _same("license.service_started", "the service of the license began"),
        _same("seat.taken", "a device took a seat of the license", "activation"),
        _same("seat.given_back", "a device gave its seat back", "activation"),
        _same("seat.freed", "the seller freed a seat", "activation"),
        _same("supervision.started", "the case left PAID", *_CASE_STEP, subject="case"),
        _same("supervision.delivered", "the code was delivered to the buyer", *_CASE_STEP, subject="case"),
        _same("supervision.activated", "the activation was recorded by hand", *_CASE_STEP, subject="case"),
        EventType(
            kind="supervision.proof_added",
            type="supervision.proof_added",
            told="a proof of delivery was stored",
            subject="proof",
            facts=("case", "kind", "sha256"),
            ordered_by="case",
        ),
        _same("supervision.proof_uploaded", "the case has its first proof", *_CASE_STEP, subject="case"),
        _same("supervision.accepted", "the delivery was accepted", *_CASE_STEP, subject="case"),
        _same("supervision.rejected", "the buyer rejected the delivery", *_CASE_STEP, subject="case"),
        _same("supervision.completed", "supervision ended; the order goes into settlement", *_CASE_STEP, subject="case"),
        _same("keys.rotated", "another key signs licenses from now on: fetch the key set again", "to", subject="kid"),
        _same("keys.compromised", "a signing key was given up: trust it no longer", subject="kid"),
        _same(
            "webhook_endpoint.disabled",
            "nothing is sent to another endpoint any more: `gone` = it answered 410, `failing` = it failed for days, `operator` = by hand",
            "why",
            subject="endpoint",
        ),
        _same("webhook_endpoint.enabled", "another endpoint is sent messages again", subject="endpoint"),
    )
}  # fmt: skip
"""By the kind of audit event."""

NOT_SENT: Final = frozenset(
    {
        *("agreement", "alert_channel", "buyer", "connection", "credential", "database", "message", "outbox", "policy", "product"),
        *("token", "vault"),
        *("license.code_mail_queued", "license.code_shown", "license.document_prepared"),
        *("webhook_endpoint.created", "webhook_endpoint.changed", "webhook_endpoint.deleted", "webhook_endpoint.secret_rotated"),
        *("webhook_endpoint.tested", "webhook_endpoint.replayed", "webhook_delivery.replayed"),
    }
)  # fmt: skip
"""Kinds, and whole groups of kinds, that are the seller's own business. A test asks of every kind in the code that somebody has decided."""

TYPES: Final = frozenset(known.type for known in CATALOGUE.values())
GROUPS: Final = frozenset(f"{name.partition('.')[0]}.*" for name in TYPES)


def is_filter(text: str) -> bool:
    """Whether this can stand in a filter: a type, `group.*` or `*`."""
    return text == ALL or text in TYPES or text in GROUPS


def matches(filters: Sequence[str], type_: str) -> bool:
    """Whether an endpoint with these filters is told of a type."""
    return ALL in filters or type_ in filters or f"{type_.partition('.')[0]}.*" in filters


def compose(row: AuditRow) -> Message | None:
    """The message that tells of an audit event; None when the outside is not told of it."""
    event = row.event
    known = CATALOGUE.get(event.kind)
    if known is None:
        return None
    data: dict[str, str | int | None] = {known.subject: event.subject}
    data |= {name: event.detail.get(name) for name in known.facts}
    data |= {name: _time(event.detail.get(name)) for name in known.times}
    subject = event.detail.get(known.ordered_by) if known.ordered_by else None
    return Message(
        id=message_id(row.hash),
        type=known.type,
        subject=str(subject or event.subject),
        payload=payload(known.type, event.at, data),
    )


def payload(type_: str, at: Instant, data: Mapping[str, str | int | None]) -> str:
    """The body of a message (Standard Webhooks 1.0): `type`, `timestamp` of the event, `data`."""
    return msgspec.json.encode({"type": type_, "timestamp": rfc3339(at), "data": data}).decode()


def message_id(event_hash: bytes) -> str:
    """`msg_` and the first 130 bits of the hash: it names the event and everything before it, also after a restore."""
    number = int.from_bytes(event_hash) >> (_HASH_BITS - _ID_BITS)
    return f"msg_{encode(number, ULID_LENGTH).lower()}"


def _time(value: str | int | None) -> str | None:
    return rfc3339(value) if isinstance(value, int) else value
