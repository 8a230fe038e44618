"""`prune`: what is past goes, in bounded steps; what is not, and what proves a license, stays. On both engines."""

import secrets

import pytest

from licensesvc.domain.instants import DAY
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.prune import Retention, prune, stale
from licensesvc.signing import keyset, vault
from licensesvc.signing.signer import KeysetSigner
from licensesvc.storage import retention

NOW = 1_795_000_000_000
KEPT = Retention(messages_days=180, outbox_days=30, released_activations_days=365, usage_days=400, alerts_days=365)

MESSAGE = (
    "INSERT INTO messages (public_id, direction, activity, received_at, request, response, outcome, duration_ms)"
    " VALUES ($1, 'in', 'a', $2, '', '', 'ok', 1)"
)
OUTBOX = "INSERT INTO outbox (kind, subject, payload, created_at, due_at, done_at) VALUES ('k', $1, '', 1, 1, $2)"
ACTIVATION = (
    "INSERT INTO activations (public_id, license_id, fingerprint_index, created_at, released_at)"
    " VALUES ($1, 1, 'f', 1, $2)"
)
ANSWER = (
    "INSERT INTO idempotency_keys (scope, idempotency_key, request_hash, status, response, created_at)"
    " SELECT 's', $1, 'h', 200, secret, $2 FROM credentials"
)
NONCE = "INSERT INTO nonces (connection_id, nonce, expires_at) VALUES (1, $1, $2)"
FAILURE = "INSERT INTO signature_failures (credential_id, address, failures, last_at) VALUES (1, $1, 1, $2)"
DAY_OF_USE = "INSERT INTO usage_days (license_id, day) SELECT 1, CAST($2 AS bigint) / 86400000 WHERE $1 <> ''"
CLIENT = "INSERT INTO usage_clients (client_key, day) VALUES ($1, CAST($2 AS bigint) / 86400000)"
RELAYED = (
    "INSERT INTO relay_usage (connection_id, license_id, day, client_index, recorded_at, reported_at)"
    " VALUES (1, 1, 1, $1, 1, $2)"
)
FINDING = (
    "INSERT INTO reconciliation_findings (public_id, connection_id, order_id, kind, found_at, seen_at, resolved_at, how)"
    " VALUES ($1, 1, $1, 'AMOUNT', 1, $2, 1, 'dismissed')"
)
ALERT = (
    "INSERT INTO alerts (public_id, connection_id, gauge, period, level, told_level, told_peak, told_at, incident,"
    " gauge_value, opened_at, cleared_at) VALUES ($1, 1, 'failed_orders', $1, 'ok', 'ok', 'warn', 1, 0, 1, 1, $2)"
)
ROWS = {
    "alerts": (ALERT, 365 * DAY),
    "messages": (MESSAGE, 180 * DAY),
    "reconciliation_findings": (FINDING, 180 * DAY),
    "outbox": (OUTBOX, 30 * DAY),
    "activations": (ACTIVATION, 365 * DAY),
    "usage_days": (DAY_OF_USE, 400 * DAY + NOW % DAY),
    "usage_clients": (CLIENT, 2 * DAY + NOW % DAY),
    "relay_usage": (RELAYED, 2 * DAY),
    "idempotency_keys": (ANSWER, DAY),
    "nonces": (NONCE, 0),
    "signature_failures": (FAILURE, DAY),
}


@pytest.fixture
async def rt(database, tmp_path) -> Runtime:
    async def parents(tx):
        for statement in (
            "INSERT INTO connections (public_id, name, site, wire_zone, calendar_zone, created_at) VALUES ('c', 'c', 'cn', 'UTC', 'UTC', 1)",
            "INSERT INTO policies (public_id, name, terms, created_at) VALUES ('p', 'p', '', 1)",
            "INSERT INTO products (public_id, connection_id, policy_id, name, marketplace_product_id, delivery_kind, code_prefix, created_at) VALUES ('d', 1, 1, 'd', 'm', 'k', 'L', 1)",
            "INSERT INTO orders (public_id, connection_id, order_id, order_type, source, received_at) VALUES ('o', 1, 'o', 'NEW', 's', 1)",
            "INSERT INTO order_lines (public_id, order_ref, line_id, product_id, terms, created_at) VALUES ('l', 1, 'l', 1, '', 1)",
            "INSERT INTO licenses (public_id, line_ref, connection_id, product_id, order_id, marketplace_product_id, order_time, policy, expiry_sources, code_hint, created_at) VALUES ('li', 1, 1, 1, 'o', 'm', 1, '', '', '', 1)",
            "INSERT INTO credentials (public_id, connection_id, name, access_key, secret, scope, created_at) VALUES ('cr', 1, 'n', 'a', $1, 'seller', 1)",
        ):
            await tx.run(statement, *([b"x"] if "$1" in statement else []))
        for sql, age in ROWS.values():
            await tx.run(sql, "past", NOW - age - 1)
            await tx.run(sql, "not past", NOW - age)

    await database.write(parents)
    return Runtime(
        db=database,
        vault=vault.create(tmp_path / "vault"),
        signer=KeysetSigner(keyset.create(tmp_path / "keys", NOW)),
        clock=lambda: NOW,
        entropy=secrets.token_bytes,
        issuer="i",
        proofs_dir=tmp_path,
    )


async def rows(rt) -> dict[str, int]:
    async def count(tx):
        return {table: (await tx.one(f"SELECT COUNT(*) AS n FROM {table}"))["n"] for table in ROWS}  # noqa: S608

    return await rt.db.read(count)


async def test_exactly_what_is_past_goes(rt):
    assert (await stale(rt, KEPT)).rows == dict.fromkeys(ROWS, 1)
    assert await rows(rt) == dict.fromkeys(ROWS, 2)  # counting deletes nothing

    assert (await prune(rt, KEPT, by="cli")).rows == dict.fromkeys(ROWS, 1)

    assert await rows(rt) == dict.fromkeys(ROWS, 1)
    assert (await prune(rt, KEPT, by="cli")).rows == dict.fromkeys(ROWS, 0)
    events = await rt.db.read(lambda tx: tx.all("SELECT kind FROM audit_events"))
    assert [event["kind"] for event in events] == ["database.pruned"]


async def test_zero_days_keep_for_good(rt):
    kept = Retention(messages_days=0, outbox_days=0, released_activations_days=0, usage_days=0, alerts_days=0)

    short_lived = {"idempotency_keys", "nonces", "signature_failures", "usage_clients", "relay_usage"}
    assert (await prune(rt, kept, by="cli")).rows.keys() == short_lived
    assert (await rows(rt))["messages"] == 2


async def test_open_work_and_live_seats_stay_however_old(rt):
    async def open_rows(tx):
        await tx.run("INSERT INTO outbox (kind, subject, payload, created_at, due_at) VALUES ('k', 'open', '', 1, 1)")
        await tx.run(
            "INSERT INTO activations (public_id, license_id, fingerprint_index, created_at) VALUES ('live', 1, 'g', 1)"
        )

    await rt.db.write(open_rows)
    await prune(rt, KEPT, by="cli")

    assert ((await rows(rt))["outbox"], (await rows(rt))["activations"]) == (2, 2)


async def test_one_call_is_bounded_and_says_that_more_is_left(rt, monkeypatch):
    monkeypatch.setattr(retention, "BATCH", 2)
    many = [(str(number), NOW - 1) for number in range(5)]
    await rt.db.write(lambda tx: tx.many(NONCE, many))
    kept = Retention(messages_days=0, outbox_days=0, released_activations_days=0, usage_days=0, alerts_days=0)

    calls = []
    while not calls or calls[-1].more:
        calls.append(await prune(rt, kept, by="cli", batches=2))
        assert len(calls) < 9

    assert len(calls) > 1
    assert (await rows(rt))["nonces"] == 1


async def test_the_command_and_its_dry_run_agree(site):
    site.clock.now = NOW

    dry = (await site.owner.post("/admin/v1/prune", json={"dry_run": True})).json()
    done = (await site.owner.post("/admin/v1/prune", json={})).json()

    assert dry == done
    assert (await site.owner.post("/admin/v1/prune", json={"table": "licenses"})).status_code == 422
