"""The error table of older guides, for connections that choose it (spec §§1.8, 10)."""

import pytest

from licensesvc.domain.connection import ErrorTable
from licensesvc.domain.instants import DAY, format_stamp
from tests.support_edges import (
    ACTIVATE,
    ACTIVATE_ALL,
    HEARTBEAT,
    HEARTBEAT_ALL,
    USAGE,
    ask,
    change,
    open_shop,
    signed_headers,
)
from tests.web.test_compat_rows import BAD_REQUEST, LISTED, METHOD, NOT_COUNTED, UNKNOWN_CODE

UNKNOWN = (200, b'{"error_code":"92020005","error_msg":"license code not exist."}')
INVALID = (400, b'{"error_code":"92020002","error_msg":"invalid param"}')
ILLEGAL_STATE = (401, b'{"error_code":"92020003","error_msg":"illegal state"}')
INTERNAL = (500, b'{"error_code":"92020001","error_msg":"internal error"}')


@pytest.fixture
async def older(edge):
    return await open_shop(edge.rt, name="older", error_table=ErrorTable.OLDER)


@pytest.fixture
async def call(edge, older):
    pair = await older.pair()

    async def call(path, fields, **options):
        answer = await edge.call(path, fields, pair=pair, **options)
        return answer.status, answer.body

    return call


async def test_every_refusal_is_the_row_of_the_older_table(edge, older, call):
    code = await older.sell_code(order_time=edge.clock.now)
    early = format_stamp(edge.clock.now - DAY, older.connection.wire)

    assert await call(ACTIVATE, {"license": "PL1"}) == UNKNOWN
    assert await call(HEARTBEAT, {"license": "PL1"}) == UNKNOWN
    assert await call(ACTIVATE, {"license": code, "real_effect_time": early}) == INVALID
    assert await call(HEARTBEAT, {"license": code}) == ILLEGAL_STATE
    assert (await call(ACTIVATE, {"license": code}))[0] == 200
    assert await call(ACTIVATE, {"license": code}) == ILLEGAL_STATE


@pytest.mark.parametrize("path", [ACTIVATE, HEARTBEAT, ACTIVATE_ALL, HEARTBEAT_ALL, USAGE])
async def test_what_the_older_table_has_no_code_for_is_an_invalid_parameter(edge, older, call, path):
    assert await call(path, b"{") == INVALID
    assert await call(path, b"{}") == INVALID
    headers = signed_headers(await older.pair(), path, b"{}", edge.clock.now, more={"Content-Type": "text/plain"})
    answer = await ask(edge.app, "POST", path, headers=headers.items(), body=b"{}")
    assert (answer.status, answer.body) == INVALID


async def test_newer_calls_keep_their_newer_codes(call):
    assert await call(ACTIVATE_ALL, UNKNOWN_CODE[ACTIVATE_ALL][0]) == (200, LISTED)
    assert await call(HEARTBEAT_ALL, UNKNOWN_CODE[HEARTBEAT_ALL][0]) == (200, LISTED)
    assert await call(USAGE, UNKNOWN_CODE[USAGE][0]) == (200, NOT_COUNTED)


async def test_before_the_caller_is_known_the_current_table_answers(edge, older):
    pair = await older.pair()
    headers = signed_headers(pair, ACTIVATE, b" " * 70_000, edge.clock.now)

    assert (await ask(edge.app, "GET", ACTIVATE, headers=headers.items())).body == METHOD
    large = await ask(edge.app, "POST", ACTIVATE, headers=headers.items(), body=b" " * 70_000)
    assert (large.status, large.body) == (400, BAD_REQUEST)
    refused = await ask(edge.app, "POST", ACTIVATE, headers=headers.items(), body=b"{}")
    assert (refused.status, refused.json["error_code"]) == (401, "APIG.0301")


async def test_a_database_that_is_away_is_an_internal_error(edge, call):
    await call(ACTIVATE, {"license": "PL1"})  # from now on the credential is in memory
    await edge.rt.db.close()

    assert await call(HEARTBEAT, {"license": "PL1"}) == INTERNAL


async def test_a_connection_that_changes_its_mind_is_followed(edge, older, call):
    await change(edge.rt, "UPDATE connections SET error_table = 'current' WHERE name = 'older'")

    assert await call(HEARTBEAT, {"license": "PL1"}) == (200, UNKNOWN[1].replace(b"not exist.", b"notexist"))
