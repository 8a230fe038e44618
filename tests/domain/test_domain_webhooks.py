"""Webhook messages as values: the catalogue, what a message holds, filters, and what follows from an answer."""

import json
import re
from email.utils import format_datetime
from pathlib import Path

import pytest

from licensesvc.domain import webhook_events
from licensesvc.domain.alerts import Event as AlertEvent
from licensesvc.domain.audit import AuditEvent, AuditRow
from licensesvc.domain.instants import DAY, HOUR, MINUTE, SECOND, to_datetime
from licensesvc.domain.supervision import Event as CaseEvent
from licensesvc.domain.webhook_attempts import (
    LONGEST_PAUSE,
    WAITS,
    Outcome,
    Verdict,
    has_failed_too_long,
    judge,
)
from licensesvc.domain.webhook_events import CATALOGUE, NOT_SENT, compose, is_filter, matches, message_id

NOW = 1_795_000_000_000
SOURCES = Path(webhook_events.__file__).parents[1]


def row(kind, subject="lic_1", seq=1, detail=None):
    event = AuditEvent(at=NOW, actor="somebody", kind=kind, subject=subject, detail=detail or {})
    return AuditRow(chain="main", seq=seq, event=event, hash=bytes([seq]) * 32)


@pytest.mark.parametrize("known", CATALOGUE.values(), ids=lambda known: known.kind)
def test_a_message_holds_the_named_facts_and_nothing_else(known):
    detail = dict.fromkeys((*known.facts, *known.times), 5) | {"reason": "private", "code": "LS-SECRET", "why_not": 1}
    message = compose(row(known.kind, "x_1", detail=detail))
    content = json.loads(message.payload)
    assert set(content) == {"type", "timestamp", "data"}
    assert content["type"] == message.type == known.type
    assert content["timestamp"] == "2026-11-18T11:06:40.000Z"
    assert set(content["data"]) == {known.subject, *known.facts, *known.times}
    assert content["data"][known.subject] == "x_1"
    assert all(content["data"][name] == "1970-01-01T00:00:00.005Z" for name in known.times)
    assert "private" not in message.payload
    assert "somebody" not in message.payload
    assert message.subject == (str(detail[known.ordered_by]) if known.ordered_by else "x_1")


def test_facts_that_are_not_known_are_null():
    message = compose(row("license.activated", detail={"case": None}))
    assert json.loads(message.payload)["data"] == {
        "license": "lic_1",
        "case": None,
        "node": None,
        "service_start": None,
        "expires_at": None,
    }


@pytest.mark.parametrize("kind", ["license.code_shown", "token.created", "buyer.erased", "no.such", "", "*", "ping"])
def test_other_events_are_not_told(kind):
    assert compose(row(kind)) is None


def kinds_in_the_code():
    """Kinds of audit events that services write, as they stand in their text; `group.{…}` for composed ones."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((SOURCES / "services").rglob("*.py")))
    groups = {kind.partition(".")[0] for kind in (*CATALOGUE, *NOT_SENT)}
    named = set(re.findall(r'(?:kind=f?|, |\()"([a-z_]+\.(?:[a-z_]+|\{[a-z_.]+\}))"', text))
    written = set(re.findall(r'kind=f?"([a-z_]+\.[^"]+)"', text))
    return written | {kind for kind in named if kind.partition(".")[0] in groups}


def decided(kind):
    group = kind.partition(".")[0]
    composed = kind.endswith("}") and any(known.startswith(f"{group}.") for known in CATALOGUE)
    return kind in CATALOGUE or kind in NOT_SENT or group in NOT_SENT or composed


def test_somebody_has_decided_about_every_kind_of_event():
    found = kinds_in_the_code()
    assert {"license.issued", "license.suspended", "seat.taken", "supervision.{event}", "buyer.erased"} <= found
    assert [kind for kind in sorted(found) if not decided(kind)] == []


def test_the_control_a_kind_without_decision_is_seen():
    assert not decided("license.invented")
    assert not decided("invented.{event}")


@pytest.mark.parametrize(
    ("group", "events"), [("supervision", CaseEvent), ("alert", AlertEvent)], ids=["supervision", "alert"]
)
def test_every_event_of_a_composed_kind_is_told(group, events):
    assert [event for event in events if f"{group}.{event}" not in CATALOGUE] == []


def test_no_kind_is_both_told_and_kept():
    assert not set(CATALOGUE) & NOT_SENT
    assert not {kind.partition(".")[0] for kind in CATALOGUE} & NOT_SENT


def test_ids_are_those_of_events():
    first, again = compose(row("license.issued")), compose(row("license.issued"))
    other = compose(row("license.issued", seq=2))
    assert first.id == again.id != other.id
    assert re.fullmatch(r"msg_[0-9a-hjkmnp-tv-z]{26}", first.id)
    assert message_id(bytes(32)) == "msg_" + "0" * 26
    assert message_id(b"\xff" * 32) == "msg_" + "z" * 26


@pytest.mark.parametrize(
    ("filters", "type_", "told"),
    [
        (("*",), "license.issued", True),
        (("license.*",), "license.issued", True),
        (("license.issued",), "license.issued", True),
        (("license.issued",), "license.revoked", False),
        (("seat.*", "order.received"), "order.received", True),
        (("seat.*",), "license.issued", False),
    ],
)
def test_filters(filters, type_, told):
    assert all(map(is_filter, filters))
    assert matches(filters, type_) is told


@pytest.mark.parametrize(
    "text", ["", "**", "license", "license.", "lic*", "license.*.*", "*.issued", "ping", "LICENSE.*"]
)
def test_what_is_no_filter(text):
    assert not is_filter(text)


def test_the_schedule_is_that_of_the_specification():
    hours = [0, *(sum(WAITS[: count + 1]) / HOUR for count in range(len(WAITS)))]
    assert WAITS[:3] == (5 * SECOND, 5 * MINUTE, 30 * MINUTE)
    assert [round(hour) for hour in hours] == [0, 0, 0, 1, 3, 8, 18, 32, 52, 76]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status):
    assert judge(status, attempts=1, now=NOW, jitter=0) == Verdict(outcome=Outcome.DELIVERED)


@pytest.mark.parametrize(
    "status", [None, 100, 199, 300, 301, 302, 304, 308, 400, 401, 403, 404, 409, 429, 500, 502, 503, 504, 599]
)
def test_everything_else_is_tried_again_until_the_schedule_ends(status):
    for attempts, wait in enumerate(WAITS, start=1):
        assert judge(status, attempts=attempts, now=NOW, jitter=0) == Verdict(due_at=NOW + wait)
        late = judge(status, attempts=attempts, now=NOW, jitter=0.999).due_at
        assert NOW + wait < late <= NOW + wait * 1.1
    assert judge(status, attempts=len(WAITS) + 1, now=NOW, jitter=0).outcome is Outcome.GIVEN_UP


def test_410_ends_at_once():
    assert judge(410, attempts=1, now=NOW, jitter=0) == Verdict(outcome=Outcome.GIVEN_UP, gone=True)


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("30", 30 * SECOND),
        (" 7 ", 7 * SECOND),
        ("0", 0),
        ("3600", HOUR),
        ("3601", LONGEST_PAUSE),
        ("999999999", LONGEST_PAUSE),
        (format_datetime(to_datetime(NOW + MINUTE), usegmt=True), MINUTE),
        (format_datetime(to_datetime(NOW - DAY), usegmt=True), 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_PAUSE),
        *((text, None) for text in ("", "-1", "1.5", "soon", "9" * 400, "٣", "Mon, 99 Foo 2026", "\0", "1e3")),
        ("Wed, 25 Nov 2026 10:00:00", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_within_bounds(status, text, pause):
    verdict = judge(status, attempts=1, now=NOW, jitter=0, retry_after=text)
    assert verdict.pause_until == (None if pause is None else NOW + pause)
    assert verdict.due_at == NOW + max(WAITS[0], pause or 0)


def test_retry_after_of_other_answers_is_ignored():
    assert judge(500, attempts=1, now=NOW, jitter=0, retry_after="60").pause_until is None


@pytest.mark.parametrize(
    ("since", "days", "too_long"),
    [(None, 5, False), (NOW, 5, False), (NOW - 5 * DAY + 1, 5, False), (NOW - 5 * DAY, 5, True), (0, 0, False)],
)
def test_failing_for_too_long(since, days, too_long):
    assert has_failed_too_long(since, NOW, days) is too_long
