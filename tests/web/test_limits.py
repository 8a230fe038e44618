"""Too many unknown codes, bad tokens and returned seats: who is refused, in which words, and who is not."""

import asyncio

import pytest

from licensesvc.domain.instants import DAY, MINUTE, SECOND
from licensesvc.services.access import limit_attempts
from licensesvc.services.access.manage_tokens import CreateToken, create_token
from licensesvc.storage.credentials import Role
from tests.support_limits import ELSEWHERE, HERE, UNKNOWN, open_limited
from tests.support_load import HEARTBEAT, ILLEGAL_STATE, SUCCESS

NOT_FOUND = "92020005"
THROTTLED = "APIG.0308"


@pytest.fixture
async def site(tmp_path):
    async with open_limited(tmp_path, limit_unknown_codes=3, limit_bad_tokens=3, limit_seats_given_back=4) as opened:
        yield opened


def code_of(site):
    return next(iter(site.stock.licenses))


async def codes(answers):
    return [answer.json()["error_code"] for answer in answers]


async def test_unknown_codes_on_the_compatible_api_end_in_the_gateways_429(site):
    answers = [await site.activate(UNKNOWN, path=path) for path in (HEARTBEAT, HEARTBEAT, HEARTBEAT, HEARTBEAT)]

    assert await codes(answers) == [NOT_FOUND] * 3 + [THROTTLED]
    refused = answers[-1]
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "20"
    assert refused.headers["ratelimit"] == '"unknown-codes";r=0;t=20'
    assert refused.headers["ratelimit-policy"] == '"unknown-codes";q=3;w=60'
    assert set(refused.json()) == {"error_msg", "error_code", "request_id"}
    assert UNKNOWN not in refused.text


async def test_who_has_no_credit_learns_nothing_not_even_by_a_lucky_guess(site):
    for _ in range(3):
        await site.activate(UNKNOWN)
    before = await site.count("buckets")

    refused = await site.activate(code_of(site))

    assert refused.json()["error_code"] == THROTTLED
    assert await site.count("buckets") == before
    site.clock.now += 20 * SECOND
    assert (await site.activate(code_of(site))).json()["error_code"] == SUCCESS


async def test_other_addresses_and_other_apis_have_credit_of_their_own(site):
    for _ in range(4):
        await site.activate(UNKNOWN)

    assert (await site.activate(code_of(site), address=ELSEWHERE)).json()["error_code"] == SUCCESS
    assert (await site.post("/v1/licenses/validate", {"code": UNKNOWN, "nonce": "n"})).status_code == 200


async def test_a_thousand_programs_that_activate_one_code_are_no_attempt(tmp_path):
    async with open_limited(tmp_path) as site:
        answers = [
            answer
            for _ in range(10)
            for answer in await asyncio.gather(*(site.activate(code_of(site)) for _ in range(100)))
        ]

        assert sorted(await codes(answers)) == [SUCCESS] + [ILLEGAL_STATE] * 999
        assert await site.count("buckets") == 0


async def test_the_control_without_a_limit_a_guesser_goes_on(tmp_path):
    async with open_limited(tmp_path, limit_unknown_codes=1_000_000) as site:
        for _ in range(100):
            assert (await site.activate(UNKNOWN)).json()["error_code"] == NOT_FOUND


async def test_parallel_guesses_are_paid_for_with_waiting(site):
    answers = await asyncio.gather(*(site.activate(UNKNOWN) for _ in range(30)))

    assert (await codes(answers)).count(NOT_FOUND) == 3
    bucket = await site.rt.db.read(lambda tx: tx.one("SELECT drained_at FROM buckets"))
    guesses = (bucket["drained_at"] - site.clock.now) // (20 * SECOND)
    assert 3 < guesses <= 30
    site.clock.now += (guesses - 3) * 20 * SECOND
    assert (await site.activate(UNKNOWN)).json()["error_code"] == THROTTLED
    site.clock.now += 20 * SECOND
    assert (await site.activate(UNKNOWN)).json()["error_code"] == NOT_FOUND


async def test_a_clock_that_is_set_back_locks_nobody_up_for_longer_than_the_largest_debt(site):
    for _ in range(4):
        await site.activate(UNKNOWN)
    site.clock.now -= 365 * DAY

    assert (await site.activate(UNKNOWN)).json()["error_code"] == THROTTLED
    site.clock.now += (2 * 3 + 99) * 20 * SECOND
    assert (await site.activate(UNKNOWN)).json()["error_code"] == NOT_FOUND


@pytest.mark.parametrize(
    "ask",
    [
        lambda site: site.post("/v1/licenses/document", {"code": UNKNOWN}),
        lambda site: site.post("/v1/licenses/validate", {"code": UNKNOWN, "nonce": "n"}),
        lambda site: site.post("/v1/activations", {"code": UNKNOWN, "fingerprint": "f"}),
        lambda site: site.call("DELETE", "/v1/activations/act_01H00000000000000000000000"),
    ],
    ids=["document", "validate", "activations", "deactivate"],
)
async def test_unknown_names_on_the_native_api_end_in_a_429_problem(site, ask):
    answers = [await ask(site) for _ in range(4)]

    assert 429 not in [answer.status_code for answer in answers[:3]]
    refused = answers[3]
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "20"
    assert refused.headers["ratelimit-policy"] == '"unknown-codes";q=3;w=60'


async def test_bad_bodies_are_no_attempts(site):
    for _ in range(10):
        assert (await site.post("/v1/licenses/document", {"code": 5})).status_code == 422

    assert (await site.post("/v1/licenses/document", {"code": UNKNOWN})).status_code == 404


async def test_clients_behind_a_trusted_proxy_have_credit_of_their_own_and_inventions_do_not_help(site):
    async def ask(forwarded, peer):
        return await site.call(
            "POST",
            "/v1/licenses/document",
            b'{"code":"%s"}' % UNKNOWN.encode(),
            address=peer,
            headers={"content-type": "application/json", "x-forwarded-for": forwarded},
        )

    for number in range(4):
        last = await ask(f"10.0.0.{number}, 203.0.113.1", "127.0.0.1")
    assert last.status_code == 429
    assert (await ask("203.0.113.2", "127.0.0.1")).status_code == 404
    for number in range(4):
        last = await ask(f"203.0.113.{number + 10}", HERE)
    assert last.status_code == 429


async def admin(site, token, address=HERE):
    return await site.call("GET", "/admin/v1/policies", address=address, headers={"authorization": f"Bearer {token}"})


async def test_bad_tokens_end_in_429_even_for_the_right_one(site):
    command = CreateToken(name="owner", role=Role.OWNER)
    _, right = await site.rt.db.write(lambda tx: create_token(tx, site.rt, command, by="test"))
    assert (await admin(site, right)).status_code == 200

    statuses = [(await admin(site, guess)).status_code for guess in (right[:-1] + "x", "a", "lsa_", "")]

    assert statuses == [401, 401, 401, 429]
    refused = await admin(site, right)
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert (await admin(site, right, ELSEWHERE)).status_code == 200
    site.clock.now += 20 * SECOND
    assert (await admin(site, right)).status_code == 200


async def test_no_token_at_all_is_no_attempt(site):
    for _ in range(10):
        assert (await site.call("GET", "/admin/v1/policies")).status_code == 401
    assert await site.count("buckets") == 0


async def test_seats_of_one_license_cannot_be_taken_and_given_back_without_end(site):
    license_code = code_of(site)

    async def cycle():
        taken = await site.post("/v1/activations", {"code": license_code, "fingerprint": "f"})
        assert taken.status_code == 201
        return taken.json()["activation_id"]

    for _ in range(4):
        assert (await site.call("DELETE", f"/v1/activations/{await cycle()}")).status_code == 204
    held = await cycle()
    events = await site.count("audit_events")
    refused = await site.call("DELETE", f"/v1/activations/{held}")

    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert refused.headers["retry-after"] == "900"
    assert refused.headers["ratelimit-policy"] == '"seats-given-back";q=4;w=3600'
    assert await site.count("audit_events") == events
    again = await site.post("/v1/activations", {"code": license_code, "fingerprint": "f"})
    assert (again.status_code, again.json()["activation_id"]) == (200, held)
    site.clock.now += 15 * MINUTE
    assert (await site.call("DELETE", f"/v1/activations/{held}")).status_code == 204


async def test_every_seat_of_a_large_license_may_be_given_back_at_once(tmp_path):
    async with open_limited(tmp_path, seats=20, limit_seats_given_back=4) as site:
        for number in range(20):
            taken = await site.post("/v1/activations", {"code": code_of(site), "fingerprint": f"f{number}"})
            answer = await site.call("DELETE", f"/v1/activations/{taken.json()['activation_id']}")
            assert answer.status_code == 204


async def test_memory_and_rows_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(limit_attempts, "BLOCKED_KEPT", 5)
    async with open_limited(tmp_path, limit_unknown_codes=1) as site:
        for number in range(20):
            await site.post("/v1/licenses/document", {"code": UNKNOWN}, address=f"203.0.113.{number}")
        limiter = await site.litestar.dependencies["limiter"]()
        assert len(limiter._blocked) == 5

        site.clock.now += 3 * MINUTE
        await site.post("/v1/licenses/document", {"code": UNKNOWN})
        assert await site.count("buckets") == 1

        # Who was forgotten in memory is found out by the database at the next attempt.
        site.clock.now += 3 * MINUTE
        first, *_, forgotten = [
            await site.post("/v1/licenses/document", {"code": UNKNOWN}, address=address)
            for address in ("203.0.113.0", *(f"203.0.113.{n}" for n in range(1, 9)), "203.0.113.0")
        ]
        assert (first.status_code, forgotten.status_code) == (404, 429)
