"""What the outside is told: which audit events become webhook messages, under which type, with which facts.

In: the catalogue, composing a message, matching filters. Out: sending. Facts are taken by name from an event, never as a whole: reasons and
other free text stay inside, and an event that the catalogue lacks is not sent.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from licensesvc.domain.alerts import Event as AlertEvent
from licensesvc.domain.audit import AuditRow
from licensesvc.domain.crockford import encode
from licensesvc.domain.ids import ULID_LENGTH
from licensesvc.domain.instants import Instant, rfc3339
from licensesvc.domain.supervision import Event as CaseEvent

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
_CASE_EVENTS: Final[Mapping[CaseEvent, str]] = {
    CaseEvent.STARTED: "the case left PAID",
    CaseEvent.CODE_SUBMITTED: "the code was given to the marketplace",
    CaseEvent.DELIVERED: "the code was delivered to the buyer",
    CaseEvent.CLAIMED: "the buyer claimed the code",
    CaseEvent.ACTIVATED: "the activation was recorded by itself, not with `license.activated`",
    CaseEvent.PROOF_UPLOADED: "the case has its proof",
    CaseEvent.REVIEW_APPROVED: "the marketplace approved the proof",
    CaseEvent.REVIEW_RETURNED: "the marketplace returned the proof",
    CaseEvent.ACCEPTED: "the delivery was accepted",
    CaseEvent.REJECTED: "the buyer rejected the delivery",
    CaseEvent.COMPLETED: "supervision ended; the order goes into settlement",
    CaseEvent.APPEALED: "the seller appealed against a rejection",
    CaseEvent.RULED_CONTINUE: "the appeal was ruled: the delivery goes on",
    CaseEvent.RULED_ACCEPTED: "the appeal was ruled: the delivery counts as accepted",
    CaseEvent.RULED_REFUNDED: "the appeal was ruled: the buyer is refunded",
    CaseEvent.REFUND_ASKED: "the buyer asked for a refund",
    CaseEvent.REFUND_APPROVED: "the refund was approved",
    CaseEvent.REFUND_REFUSED: "the refund was refused",
    CaseEvent.GOODS_SENT_BACK: "the buyer sent the goods back",
    CaseEvent.GOODS_CONFIRMED: "the seller has the goods back",
    CaseEvent.GOODS_REFUSED: "the seller refused the returned goods",
    CaseEvent.REFUNDED: "the buyer was refunded",
    CaseEvent.REOPENED: "the case goes on after it had ended",
}
_ALERT: Final = ("connection", "gauge", "period", "level", "value", "limit")
_ALERT_EVENTS: Final[Mapping[AlertEvent, str]] = {
    AlertEvent.RAISED: "a gauge of the connection is not well, or worse than before",
    AlertEvent.LOWERED: "the gauge is less bad than before",
    AlertEvent.REPEATED: "a critical alert is told again, for nobody has acknowledged it",
    AlertEvent.CLEARED: "the gauge is well again",
}
_FINDING_ENDS: Final = {
    "vanished": "the difference is gone",
    "repaired": "the difference was repaired",
    "dismissed": "the difference was dismissed",
}

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
        _same("license.released", "the resource was released: by the marketplace, or with its case", "refund_order", "case"),
        _same("license.refund_told", "the refund of a license that had ended already was told", "refund_order"),
        _same("license.frozen", "the marketplace froze the license"),
        _same("license.unfrozen", "the marketplace ended the freeze"),
        _same("license.refreshed", "the marketplace gave the license another end", "order", "line", "scene", "from", "to"),
        _same("license.service_started", "the service began without an activation", "case", times=("service_start", "expires_at")),
        _same("license.order_known", "the order of a license that had been met before it was found", "order", "line"),
        _same("seat.taken", "a device took a seat of the license", "activation"),
        _same("seat.given_back", "a device gave its seat back", "activation"),
        _same("seat.freed", "the seller freed a seat", "activation"),
        EventType(
            kind="supervision.proof_added",
            type="supervision.proof_added",
            told="a proof of delivery was stored",
            subject="proof",
            facts=("case", "kind", "sha256"),
            ordered_by="case",
        ),
        *(_same(f"supervision.{event}", told, *_CASE_STEP, subject="case") for event, told in _CASE_EVENTS.items()),
        _same("supervision.confirmed", "an entry of the case was seen on the marketplace", "event", "source", subject="case", times=("happened",)),
        _same("supervision.due", "a deadline of the case is near, or `overdue`", "kind", "at", "actor", "overdue", "node", subject="case"),
        _same("supervision.flow_changed", "the case follows another flow", "from", "to", subject="case"),
        *(_same(f"alert.{event}", told, *_ALERT, subject="alert") for event, told in _ALERT_EVENTS.items()),
        _same("finding.found", "our order and the marketplace's differ", "order", "line_id", "kind", subject="finding"),
        *(_same(f"finding.{how}", told, "order", "kind", subject="finding") for how, told in _FINDING_ENDS.items()),
        _same("transaction.entered", "money for an order line was entered", "line", "kind", "amount", "reference", subject="transaction"),
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
        *("agreement", "alert_channel", "buyer", "connection", "credential", "database", "delisting", "line", "message"),
        *("outbox", "policy", "product", "token", "vault"),
        *("license.code_mail_queued", "license.code_shown", "license.document_prepared"),
        *("license.freeze_not_applied", "license.refresh_not_applied", "alert.acknowledged"),
        *("supervision.buyer_code_shown", "supervision.link_made", "supervision.link_mailed", "supervision.link_revoked"),
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
