"""AK/SK at the door: what is refused, the time window, and the lock after bad signatures (spec §§1.9, 3)."""

import pytest

from licensesvc.domain.instants import MINUTE, SECOND
from licensesvc.marketplace.huawei import aksk
from licensesvc.services.access.manage_credentials import revoke_credential
from tests.support_edges import ACTIVATE, HEARTBEAT, HOST, Pair, ask, call, open_edge, rows, signed_headers
from tests.web.test_compat_rows import UNKNOWN

BODY = b'{"license":"PL1"}'
FAILED = "Incorrect IAM authentication information: verify aksk signature fail"


async def send(edge, headers, body=BODY, path=ACTIVATE, **options):
    pairs = headers.items() if isinstance(headers, dict) else headers
    return await ask(edge.app, "POST", path, headers=pairs, body=body, **options)


def refused(answer):
    """The gateway's envelope, whatever its message."""
    assert answer.status == 401
    assert answer.header("content-type") == "application/json;charset=UTF-8"
    assert list(answer.json) == ["error_msg", "error_code", "request_id"]
    assert answer.json["error_code"] == "APIG.0301"
    assert answer.json["request_id"]
    return answer.json["error_msg"]


def signed(edge, body=BODY, **more):
    return signed_headers(edge.pair, ACTIVATE, body, edge.clock.now, **more)


def without(name):
    return lambda headers: [(key, value) for key, value in headers.items() if key != name]


def changed(name, value):
    return lambda headers: [(key, value(text) if key == name else text) for key, text in headers.items()]


def added(name, value):
    return lambda headers: [*headers.items(), (name, value)]


MALFORMED = {
    "no authorization": without("Authorization"),
    "no date": without("X-Sdk-Date"),
    "no host": without("Host"),
    "a signed header gone": without("Content-Type"),
    "another scheme": changed("Authorization", lambda text: text.replace("SDK-HMAC", "AWS4-HMAC")),
    "no list of headers": changed("Authorization", lambda text: text.replace("SignedHeaders=", "Headers=")),
    "a signature cut": changed("Authorization", lambda text: text[:-1]),
    "a signature too long": changed("Authorization", lambda text: text + "0"),
    "an upper-case signature": changed("Authorization", lambda text: text[:-64] + "A" * 64),
    "host not signed": changed("Authorization", lambda text: text.replace("host;", "")),
    "date not signed": changed("Authorization", lambda text: text.replace(";x-sdk-date", "")),
    "host twice": added("Host", HOST),
    "date twice": added("X-Sdk-Date", "20261118T110640Z"),
    "authorization twice": added("Authorization", "SDK-HMAC-SHA256 Access=x"),
    "a signed header twice": added("Content-Type", "text/plain"),
    "a date that is none": changed("X-Sdk-Date", lambda _: "20261318T110640Z"),
    "a date in another form": changed("X-Sdk-Date", lambda _: "2026-11-18T11:06:40Z"),
    "a date in the year 1": changed("X-Sdk-Date", lambda _: "00010101T000000Z"),
    "an endless authorization": changed("Authorization", lambda text: text + "x" * 10_000),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_is_not_a_signed_request_is_refused_and_counts_for_nothing(edge, name):
    refused(await send(edge, MALFORMED[name](signed(edge))))

    assert await rows(edge.rt, "signature_failures") == [0]


FORGED = {
    "a byte of the body": ({}, b'{"license":"PL2"}', ACTIVATE),
    "another path": ({}, BODY, HEARTBEAT),
    "a query": ({}, BODY, f"{ACTIVATE}?x=1"),
    "another host": ({"Host": "evil.example"}, BODY, ACTIVATE),
    "another content type": ({"Content-Type": "application/json"}, BODY, ACTIVATE),
    "another date": ({"X-Sdk-Date": "20261118T110641Z"}, BODY, ACTIVATE),
}


@pytest.mark.parametrize("name", FORGED)
async def test_one_changed_byte_is_refused_and_counted(edge, name):
    more, body, path = FORGED[name]

    assert refused(await send(edge, {**signed(edge), **more}, body, path)) == FAILED
    assert await rows(edge.rt, "signature_failures") == [1]


async def test_a_body_swapped_under_its_stated_hash_is_refused(edge):
    from hashlib import sha256

    honest = signed(edge, more={"X-Sdk-Content-Sha256": sha256(BODY).hexdigest()})
    assert (await send(edge, honest)).body == UNKNOWN
    assert refused(await send(edge, honest, b'{"license":"PL2"}')) == FAILED
    unsigned = signed(edge, more={"X-Sdk-Content-Sha256": "UNSIGNED-PAYLOAD"})
    assert "unsigned payload" in refused(await send(edge, unsigned))


@pytest.mark.parametrize(
    ("offset", "accepted"),
    [
        (-15 * MINUTE, True),
        (15 * MINUTE, True),
        (-15 * MINUTE - SECOND, False),
        (15 * MINUTE + SECOND, False),
    ],
)
async def test_the_date_lies_within_fifteen_minutes(edge, offset, accepted):
    answer = await send(edge, signed_headers(edge.pair, ACTIVATE, BODY, edge.clock.now + offset))

    if accepted:
        assert answer.body == UNKNOWN
    else:
        assert refused(answer) == aksk.DATE_EXPIRED


async def fail(edge, times=1, *, peer="203.0.113.9", pair=None):
    pair = pair or edge.pair
    wrong = Pair(access_key=pair.access_key, secret="wrong", public_id="")
    return [refused(await call(edge.app, wrong, ACTIVATE, BODY, edge.clock.now, peer=peer)) for _ in range(times)]


async def honest(edge, *, peer="203.0.113.9"):
    return (await call(edge.app, edge.pair, ACTIVATE, BODY, edge.clock.now, peer=peer)).status


async def test_five_bad_signatures_in_a_row_go_unpunished_the_sixth_locks(edge):
    assert await fail(edge, 5) == [FAILED] * 5
    assert await honest(edge) == 200
    assert await rows(edge.rt, "signature_failures") == [0]

    assert await fail(edge, 6) == [FAILED] * 6
    assert await honest(edge) == 401
    assert await fail(edge, 2) == [aksk.LOCKED] * 2


async def test_a_lock_ends_after_five_minutes_and_counting_begins_anew(edge):
    await fail(edge, 6)
    edge.clock.now += 5 * MINUTE - 1
    assert await honest(edge) == 401

    edge.clock.now += 1

    assert await fail(edge, 5) == [FAILED] * 5
    assert await honest(edge) == 200


async def test_a_stranger_cannot_lock_out_an_honest_address(edge):
    await fail(edge, 20, peer="203.0.113.9")

    assert await honest(edge, peer="203.0.113.10") == 200
    assert await rows(edge.rt, "signature_failures") == [1]


async def test_an_ipv6_customer_is_counted_by_its_network(edge):
    for last in range(6):
        await fail(edge, peer=f"2001:db8:1:2::{last}")

    assert await honest(edge, peer="2001:db8:1:2:ffff::1") == 401
    assert await honest(edge, peer="2001:db8:1:3::1") == 200
    assert await honest(edge, peer="::ffff:203.0.113.9") == 200


async def test_a_setting_gives_the_gateways_lock_per_key(tmp_path):
    async with open_edge(tmp_path, lock_scope="key") as edge:
        for last in range(6):
            await fail(edge, peer=f"203.0.113.{last}")

        assert await honest(edge, peer="198.51.100.1") == 401
        other = await edge.shop.pair()
        assert (await edge.call(ACTIVATE, BODY, pair=other)).status == 200


async def test_stale_dates_and_unknown_keys_neither_count_nor_leave_a_row(edge):
    unknown = Pair(access_key="AKUNKNOWN", secret="x", public_id="")
    stale = Pair(access_key=edge.pair.access_key, secret="wrong", public_id="")
    for _ in range(10):
        assert refused(await call(edge.app, unknown, ACTIVATE, BODY, edge.clock.now)) == FAILED
        assert refused(await call(edge.app, stale, ACTIVATE, BODY, edge.clock.now - 16 * MINUTE)) == aksk.DATE_EXPIRED

    assert (await edge.call(ACTIVATE, BODY)).status == 200
    assert await rows(edge.rt, "signature_failures", "messages") == [0, 0]


async def test_a_lock_outlives_a_restart(edge):
    from licensesvc.services.access.authenticate_software import SoftwareGate

    await fail(edge, 6)
    gate = SoftwareGate(edge.rt)
    await gate.load()
    headers = signed_headers(edge.pair, ACTIVATE, BODY, edge.clock.now)
    request = aksk.parse_request(
        "POST", ACTIVATE.encode(), b"", [(k.lower().encode(), v.encode()) for k, v in headers.items()]
    )

    with pytest.raises(aksk.SignatureRefused, match=aksk.LOCKED):
        await gate.authenticate(request, BODY, "203.0.113.9")


async def test_a_revoked_pair_is_refused_once_its_time_in_memory_is_over(edge):
    assert await honest(edge) == 200
    await edge.rt.db.write(lambda tx: revoke_credential(tx, edge.rt, edge.pair.public_id, by="test"))

    edge.clock.now += 5 * SECOND

    assert refused(await send(edge, signed(edge))) == FAILED


async def test_a_signed_query_is_part_of_the_signature(edge):
    path = f"{ACTIVATE}?b=2&a=%E4%B8%AD&empty="
    headers = signed_headers(edge.pair, path, BODY, edge.clock.now)

    assert (await send(edge, headers, path=path)).body == UNKNOWN
    assert refused(await send(edge, headers, path=path.replace("b=2", "b=3"))) == FAILED
