"""The native API: signed license, receipts, seats, and its refusals as problem documents (issue 2, deliverables 5 and 6)."""

import hashlib
import json
import warnings

import pytest
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet

from licensesvc.domain.instants import DAY, SECOND, parse_rfc3339
from licensesvc.domain.policy import Binding, Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.upkeep import readiness
from tests.support_edges import ACTIVATE, ask, change, open_shop, rows

DOCUMENT, VALIDATE, SEATS = "/v1/licenses/document", "/v1/licenses/validate", "/v1/activations"


async def post(edge, path, fields, content_type="application/json"):
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return await ask(edge.app, "POST", path, headers=[("Content-Type", content_type)], body=body)


async def verified(edge, token, typ):
    """The claims, as an independent implementation reads them with nothing but the published keys."""
    published = await ask(edge.app, "GET", "/.well-known/jwks.json")
    assert published.header("cache-control") == "public, max-age=300"
    with warnings.catch_warnings():  # RFC 9864 prefers the name Ed25519, which few libraries know yet
        warnings.simplefilter("ignore", SecurityWarning)
        read = jws.deserialize_compact(token, KeySet.import_key_set(published.json), algorithms=["EdDSA"])
    assert read.headers() == {"alg": "EdDSA", "kid": edge.rt.signer.kid, "typ": typ}
    return json.loads(read.payload)


async def validate(edge, code, **fields):
    answer = await post(edge, VALIDATE, {"code": code, "nonce": "n-1", **fields})
    assert answer.status == 200
    return answer.json


async def test_the_signed_license_verifies_from_the_published_keys(edge):
    code = await edge.shop.sell_code("CS123")

    answer = await post(edge, DOCUMENT, {"code": code})

    assert answer.status == 200
    claims = await verified(edge, answer.json["document"], "license+jwt")
    assert claims["sub"] == answer.json["license_id"]
    assert (claims["order"], claims["product"], claims["seats"], answer.json["revision"]) == ("CS123", "OFFI100", 2, 1)
    assert (await post(edge, DOCUMENT, {"code": code})).body == answer.body
    assert code not in answer.body.decode()


async def test_an_unclaimed_license_gives_no_seat(edge):
    shop = await open_shop(edge.rt, name="old", kind=DeliveryKind.LICENSE_2_0)
    code = await shop.sell_code("CS1", code="PL-1", order_time=parse_rfc3339("2025-04-24T15:59:59Z"))
    before = await edge.written()

    answer = await post(edge, SEATS, {"code": code, "fingerprint": "device"})

    assert (answer.status, answer.json["code"]) == (409, "LICENSE_NOT_CLAIMED")
    assert await edge.written() == before


async def test_a_perpetual_license_says_so_and_has_no_end(edge):
    shop = await open_shop(edge.rt, name="forever", term=Term.PERPETUAL)

    answer = await post(edge, DOCUMENT, {"code": await shop.sell_code()})

    claims = await verified(edge, answer.json["document"], "license+jwt")
    assert claims["term"] == "perpetual"
    assert "exp" not in claims


@pytest.mark.parametrize("days", [7, 30])
async def test_a_receipt_repeats_the_nonce_and_lasts_its_offline_days(edge, days):
    shop = await open_shop(edge.rt, name="offline", offline_days=days)
    code = await shop.sell_code()
    await post(edge, SEATS, {"code": code, "fingerprint": "device"})

    said = await validate(edge, code, nonce="中 nonce", fingerprint="device")

    claims = await verified(edge, said["receipt"], "receipt+jwt")
    assert (said["valid"], said["code"], said["status"]) == (True, "VALID", "ALIVE")
    assert claims["nonce"] == "中 nonce"
    assert claims["iat"] == edge.clock.now // SECOND
    assert claims["exp"] == claims["iat"] + days * DAY // SECOND
    assert claims["sub"] == said["license_id"]
    assert (claims["valid"], claims["code"], claims["status"]) == (True, "VALID", "ALIVE")


async def test_an_unknown_code_is_a_no_without_receipt(edge):
    said = await validate(edge, "LS-00000")

    assert (said["valid"], said["code"], said["receipt"], said["kid"], said["license_id"]) == (
        False,
        "NOT_FOUND",
        None,
        None,
        None,
    )


NOES = {
    "not activated": (None, "NOT_ACTIVATED"),
    "expired": ("expires_at = 1", "EXPIRED"),
    "frozen": ("frozen_at = 1", "FROZEN"),
    "suspended": ("suspended_at = 1", "SUSPENDED"),
    "revoked": ("state = 'REVOKED'", "REVOKED"),
    "released": ("state = 'RELEASED'", "RELEASED"),
}


@pytest.mark.parametrize("name", NOES)
async def test_every_no_is_a_signed_200_with_its_reason(edge, name):
    column, reason = NOES[name]
    code = await edge.shop.sell_code()
    if column:
        await edge.call(ACTIVATE, {"license": code})
        await change(edge.rt, f"UPDATE license_states SET {column}")  # noqa: S608

    said = await validate(edge, code)

    claims = await verified(edge, said["receipt"], "receipt+jwt")
    assert (said["valid"], said["code"], claims["valid"], claims["code"]) == (False, reason, False, reason)


async def test_a_fingerprint_without_seat_may_not_run_and_asking_takes_none(edge):
    code = await edge.shop.sell_code()
    await edge.call(ACTIVATE, {"license": code})

    assert (await validate(edge, code))["code"] == "VALID"
    assert (await validate(edge, code, fingerprint="device"))["code"] == "FINGERPRINT_NOT_ACTIVATED"
    assert await rows(edge.rt, "activations") == [0]


async def test_a_node_locked_license_runs_only_where_its_device_is_named(edge):
    shop = await open_shop(edge.rt, name="locked", binding=Binding.NODE_LOCKED)
    code = await shop.sell_code()
    await post(edge, SEATS, {"code": code, "fingerprint": "device"})

    said = await validate(edge, code)

    claims = await verified(edge, said["receipt"], "receipt+jwt")
    assert (said["valid"], said["code"], said["status"]) == (False, "FINGERPRINT_REQUIRED", "ALIVE")
    assert (claims["valid"], claims["code"]) == (False, "FINGERPRINT_REQUIRED")
    assert (await validate(edge, code, fingerprint="other"))["code"] == "FINGERPRINT_NOT_ACTIVATED"
    assert (await validate(edge, code, fingerprint="device"))["valid"]


@pytest.mark.parametrize("binding", [Binding.NONE, Binding.NODE_LOCKED])
async def test_a_receipt_names_the_device_that_asked_and_no_other(edge, binding):
    shop = await open_shop(edge.rt, name="bound", binding=binding)
    code = await shop.sell_code()
    await post(edge, SEATS, {"code": code, "fingerprint": "设备\n1"})

    async def device(nonce, **fields):
        said = await validate(edge, code, nonce=nonce, **fields)
        return (await verified(edge, said["receipt"], "receipt+jwt"))["fingerprint_sha256"]

    assert await device("n-1") is None
    for nonce, fingerprint in (("n-1", "设备\n1"), ("中", "设备\n1"), ("n-1", "other")):
        named = hashlib.sha256(f"{nonce}\n{fingerprint}".encode()).hexdigest()
        assert await device(nonce, fingerprint=fingerprint) == named


@pytest.mark.parametrize("activated", [True, False], ids=["in service", "never activated"])
@pytest.mark.parametrize("asked_before", [True, False], ids=["signed before", "never signed"])
@pytest.mark.parametrize("name", ["frozen", "suspended", "revoked", "released"])
async def test_a_license_out_of_use_gets_no_document_that_would_work_offline_on(edge, name, asked_before, activated):
    code = await edge.shop.sell_code()
    if activated:
        await edge.call(ACTIVATE, {"license": code})
    if asked_before:
        assert (await post(edge, DOCUMENT, {"code": code})).status == 200
    await change(edge.rt, f"UPDATE license_states SET {NOES[name][0]}")  # noqa: S608
    before = await edge.written()

    problem(await post(edge, DOCUMENT, {"code": code}), "ILLEGAL_LICENSE_STATE", 409)
    assert await edge.written() == before


async def test_a_seat_is_taken_once_given_back_and_taken_again(edge):
    code = await edge.shop.sell_code()

    first = await post(edge, SEATS, {"code": code, "fingerprint": "one"})
    again = await post(edge, SEATS, {"code": code.lower(), "fingerprint": "one"})
    await post(edge, SEATS, {"code": code, "fingerprint": "two"})
    third = await post(edge, SEATS, {"code": code, "fingerprint": "three"})

    assert (first.status, again.status, third.status) == (201, 200, 409)
    assert again.json == first.json
    assert first.json["seats"] == 2
    problem(third, "NO_FREE_SEAT", 409)
    for _ in range(2):
        freed = await ask(edge.app, "DELETE", f"{SEATS}/{first.json['activation_id']}")
        assert (freed.status, freed.body) == (204, b"")
    assert (await validate(edge, code, fingerprint="one"))["code"] == "FINGERPRINT_NOT_ACTIVATED"
    assert (await post(edge, SEATS, {"code": code, "fingerprint": "three"})).status == 201


async def test_a_fingerprint_is_never_stored(edge):
    code = await edge.shop.sell_code()
    await post(edge, SEATS, {"code": code, "fingerprint": "00:1A:2B|WD-CANARY"})

    stored = await edge.rt.db.read(lambda tx: tx.all("SELECT * FROM activations"))
    audited = await edge.rt.db.read(lambda tx: tx.all("SELECT * FROM audit_events"))
    assert "CANARY" not in repr([tuple(row) for row in (*stored, *audited)])
    assert code not in repr([tuple(row) for row in audited])


def problem(answer, code, status):
    assert answer.status == status
    assert answer.header("content-type") == "application/problem+json"
    assert (answer.json["code"], answer.json["status"]) == (code, status)
    assert answer.json["type"] == f"/problems/{code.lower().replace('_', '-')}"


@pytest.mark.parametrize(
    ("path", "body", "code", "status"),
    [
        (DOCUMENT, {"code": "LS-1"}, "LICENSE_NOT_FOUND", 404),
        (SEATS, {"code": "LS-1", "fingerprint": "x"}, "LICENSE_NOT_FOUND", 404),
        (DOCUMENT, {}, "INVALID_BODY", 422),
        (DOCUMENT, {"code": ""}, "INVALID_BODY", 422),
        (DOCUMENT, {"code": "x" * 65}, "INVALID_BODY", 422),
        (DOCUMENT, {"code": 7}, "INVALID_BODY", 422),
        (DOCUMENT, {"code": "x", "more": 1}, "INVALID_BODY", 422),
        (VALIDATE, {"code": "x"}, "INVALID_BODY", 422),
        (VALIDATE, {"code": "x", "nonce": ""}, "INVALID_BODY", 422),
        (VALIDATE, {"code": "x", "nonce": "n" * 129}, "INVALID_BODY", 422),
        (VALIDATE, {"code": "x", "nonce": "n", "fingerprint": "f" * 1025}, "INVALID_BODY", 422),
        (SEATS, {"code": "x"}, "INVALID_BODY", 422),
        (SEATS, {"code": "x", "fingerprint": ""}, "INVALID_BODY", 422),
        (SEATS, b'{"code":"x","code":"y","fingerprint":"f"}', "UNREADABLE_BODY", 400),
        (SEATS, b'{"code":"x","fingerprint":"\\u0000"}', "UNREADABLE_BODY", 400),
        (SEATS, b'{"code":"x","fingerprint":"\\ud800"}', "UNREADABLE_BODY", 400),
        (SEATS, b"\xff", "UNREADABLE_BODY", 400),
        (SEATS, b"[" * 10_000, "UNREADABLE_BODY", 400),
        (SEATS, b"", "UNREADABLE_BODY", 400),
        (SEATS, b"[]", "UNREADABLE_BODY", 400),
        (SEATS, b" " * 1024 * 1024, "BODY_TOO_LARGE", 413),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_cannot_be_carried_out_is_a_problem_document(edge, path, body, code, status):
    before = await edge.written()

    problem(await post(edge, path, body), code, status)
    assert await edge.written() == before


async def test_other_refusals_are_problem_documents_too(edge):
    problem(await post(edge, SEATS, b"{}", "text/plain"), "UNSUPPORTED_MEDIA_TYPE", 415)
    problem(await ask(edge.app, "GET", SEATS), "METHOD_NOT_ALLOWED", 405)
    problem(await ask(edge.app, "GET", "/v1/nothing"), "NOT_FOUND", 404)
    problem(await ask(edge.app, "DELETE", f"{SEATS}/act_unknown"), "ACTIVATION_NOT_FOUND", 404)


async def test_a_license_that_is_held_up_gives_no_seat(edge):
    code = await edge.shop.sell_code()
    await edge.call(ACTIVATE, {"license": code})
    await change(edge.rt, "UPDATE license_states SET suspended_at = 1")

    problem(await post(edge, SEATS, {"code": code, "fingerprint": "x"}), "ILLEGAL_LICENSE_STATE", 409)


async def test_health_tells_whether_the_database_answers(edge, monkeypatch):
    monkeypatch.setattr(readiness, "KEPT_S", 0.0)
    assert (await ask(edge.app, "GET", "/healthz")).body == b"ok\n"
    assert (await ask(edge.app, "GET", "/readyz")).status == 200

    await edge.rt.db.close()

    assert (await ask(edge.app, "GET", "/healthz")).status == 200
    assert (await ask(edge.app, "GET", "/readyz")).status == 503
    problem(await post(edge, DOCUMENT, {"code": "x"}), "UNAVAILABLE", 503)
