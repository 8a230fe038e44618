"""The relay's tables: every answer has a consequence, and the last known good ends when it should."""

from zoneinfo import ZoneInfo

import pytest

from licensesvc.domain import relay
from licensesvc.domain.instants import DAY, HOUR, MINUTE, SECOND, parse_rfc3339
from licensesvc.domain.relay import (
    ACTIVATION,
    ASK_AGAIN,
    BLAMES_A_CODE,
    HEARD,
    NO,
    QUERY,
    Heard,
    LastKnown,
    Then,
    after_asking,
    is_fresh,
    stands,
    status_then,
    usable_status,
)
from licensesvc.marketplace.huawei.result_codes import OpenApiCode

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOON = parse_rfc3339("2026-11-18T04:00:00Z")
"""Of 2026-11-18 in Shanghai."""


def test_every_outcome_has_a_consequence():
    assert ACTIVATION.keys() == QUERY.keys() == set(Heard)
    passed_on = {heard for table in (ACTIVATION, QUERY) for heard, then in table.items() if then is Then.PASS_ON}
    assert passed_on <= NO.keys()
    assert NO.keys() == BLAMES_A_CODE


def test_the_codes_are_the_marketplaces():
    assert HEARD.keys() <= set(OpenApiCode)
    away = set(OpenApiCode) - HEARD.keys()
    assert away == {"92020001", "95000002", "95000003", "95000004"}, "those say nothing about a code"


def test_only_what_says_nothing_about_the_code_is_tried_again_later():
    assert {heard for heard, then in QUERY.items() if then is Then.LATER} == {Heard.TROUBLE, Heard.LOST}


def test_an_activation_is_asked_for_wherever_it_may_have_had_its_effect():
    assert {heard for heard, then in ACTIVATION.items() if then is Then.ASK} == {Heard.ILLEGAL_STATE, Heard.LOST}


@pytest.mark.parametrize(
    ("activation", "query", "status", "then"),
    [
        (Heard.LOST, Heard.SUCCESS, "ALIVE", (Then.RECORD, Heard.SUCCESS)),
        (Heard.ILLEGAL_STATE, Heard.SUCCESS, "ALIVE", (Then.RECORD, Heard.SUCCESS)),
        (Heard.ILLEGAL_STATE, Heard.SUCCESS, "EXPIRED", (Then.PASS_ON, Heard.ILLEGAL_STATE)),
        (Heard.LOST, Heard.SUCCESS, "RELEASED", (Then.PASS_ON, Heard.ILLEGAL_STATE)),
        (Heard.LOST, Heard.NOT_ACTIVATED, None, (Then.LATER, Heard.LOST)),
        (Heard.ILLEGAL_STATE, Heard.NOT_ACTIVATED, None, (Then.PASS_ON, Heard.ILLEGAL_STATE)),
        (Heard.LOST, Heard.ILLEGAL_STATE, None, (Then.LATER, Heard.LOST)),
        (Heard.ILLEGAL_STATE, Heard.ILLEGAL_STATE, None, (Then.PASS_ON, Heard.ILLEGAL_STATE)),
        (Heard.LOST, Heard.UNKNOWN, None, (Then.PASS_ON, Heard.UNKNOWN)),
        (Heard.LOST, Heard.TROUBLE, None, (Then.LATER, Heard.TROUBLE)),
        (Heard.ILLEGAL_STATE, Heard.LOST, None, (Then.LATER, Heard.LOST)),
    ],
)
def test_after_asking(activation, query, status, then):
    assert after_asking(activation, query, status) == then


@pytest.mark.parametrize(
    ("word", "status"),
    [("ALIVE", "ALIVE"), ("EXPIRED", "EXPIRED"), ("RELEASED", "RELEASED"), ("FROZEN", "EXPIRED"), ("alive", "EXPIRED")],
)
def test_an_unknown_word_is_not_usable(word, status):
    assert usable_status(word) == status


def known(**changes):
    told = {"status": "ALIVE", "expires_at": None, "asked_at": NOON, "valid_until": NOON + 7 * DAY, "day": "2026-11-18"}
    return LastKnown(**{**told, **changes})


@pytest.mark.parametrize(
    ("changes", "later", "fresh"),
    [
        ({}, 0, True),
        ({}, 12 * HOUR - 1, True),
        ({}, 12 * HOUR, False),  # midnight in Shanghai
        ({}, -12 * HOUR, True),  # a clock that was set back within the day
        ({}, -12 * HOUR - 1, False),
        ({"day": None}, 0, False),
        ({"valid_until": NOON + HOUR}, HOUR - 1, True),
        ({"valid_until": NOON + HOUR}, HOUR, False),
        ({"expires_at": NOON + HOUR}, HOUR - 1, True),
        ({"expires_at": NOON + HOUR}, HOUR, False),
        ({"status": "EXPIRED"}, ASK_AGAIN - 1, True),
        ({"status": "EXPIRED"}, ASK_AGAIN, False),
        ({"status": "RELEASED"}, MINUTE, True),
    ],
)
def test_who_need_not_be_asked_again(changes, later, fresh):
    assert is_fresh(known(**changes), NOON + later, SHANGHAI) is fresh


@pytest.mark.parametrize(
    ("changes", "later", "status", "standing"),
    [
        ({}, 6 * DAY, "ALIVE", True),
        ({}, 7 * DAY - 1, "ALIVE", True),
        ({}, 7 * DAY, "ALIVE", False),
        ({"expires_at": NOON + DAY}, DAY - SECOND, "ALIVE", True),
        ({"expires_at": NOON + DAY}, DAY, "EXPIRED", True),
        ({"status": "RELEASED", "expires_at": NOON + DAY}, DAY, "RELEASED", True),
    ],
)
def test_the_last_known_good(changes, later, status, standing):
    last = known(**changes)
    assert (status_then(last, NOON + later), stands(last, NOON + later)) == (status, standing)


def test_days_are_those_of_the_calendar():
    assert relay.day_of(NOON + 12 * HOUR, SHANGHAI) == "2026-11-19"
    assert relay.day_of(NOON + 12 * HOUR, ZoneInfo("UTC")) == "2026-11-18"
