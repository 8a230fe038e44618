"""One attempt to deliver a message: claim it, sign it, send it, write down what came of it.

In: the three steps, each repeatable. Out: who calls them when (`webhook_dispatcher`). A process that dies between two of them leaves a claim
whose lease ends, and the message is sent again: at least once is the promise, the receiver knows repeats by `webhook-id`.
"""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from licensesvc import __version__
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.instants import SECOND, Instant
from licensesvc.domain.webhook_attempts import Outcome, Verdict, Why, has_failed_too_long, judge
from licensesvc.outbound.client import Answer, OutboundClient, OutboundFailed, OutboundRefused
from licensesvc.services.runtime import Runtime
from licensesvc.signing.webhook_signature import SignatureKind, WebhookSecret, headers
from licensesvc.storage import audit, webhook_deliveries, webhook_endpoints
from licensesvc.storage.port import Tx
from licensesvc.storage.webhook_deliveries import Attempt, StoredDelivery
from licensesvc.storage.webhook_endpoints import StoredEndpoint

LEASE: Final = 60 * SECOND
"""How long a claim holds: four times what a call may take (`outbound.client.Bounds`), so that nobody sends what another one is still sending."""
ANSWER_CHARACTERS: Final = 300
"""Of an answer that are kept in the log of a delivery."""


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Claimed deliveries of one endpoint with the secrets that sign them."""

    endpoint: StoredEndpoint
    secrets: tuple[WebhookSecret, ...]
    deliveries: tuple[StoredDelivery, ...]


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was made; `failing_days` = after how many days of failures the endpoint is disabled."""

    delivery: StoredDelivery
    attempt: Attempt
    verdict: Verdict
    now: Instant
    failing_days: int


def secret_context(public_id: str) -> str:
    """What the vault binds the secret of an endpoint to."""
    return f"webhook_secret:{public_id}"


async def claim(rt: Runtime, endpoint_id: int, limit: int) -> Work | None:
    """Take up to `limit` due deliveries of an endpoint; None = nothing is to be sent to it now. Raises StorageError, CannotOpen."""
    return await rt.db.write(lambda tx: _claim(tx, rt, endpoint_id, limit))


async def _claim(tx: Tx, rt: Runtime, endpoint_id: int, limit: int) -> Work | None:
    now = rt.clock()
    endpoint = await webhook_endpoints.by_id(tx, endpoint_id)
    if endpoint is None or endpoint.disabled_at is not None or (endpoint.paused_until or 0) > now:
        return None
    stored = await webhook_endpoints.secrets(tx, [endpoint_id], now)
    secrets = [
        WebhookSecret(
            kind=SignatureKind(secret.kind), raw=rt.vault.open(secret.sealed, secret_context(secret.public_id))
        )
        for secret in stored
        if secret.kind in endpoint.signatures
    ]
    deliveries = await webhook_deliveries.claim(tx, endpoint_id, now=now, lease_until=now + LEASE, limit=limit)
    return Work(endpoint=endpoint, secrets=tuple(secrets), deliveries=tuple(deliveries))


async def attempt(rt: Runtime, client: OutboundClient, work: Work, delivery: StoredDelivery) -> tuple[Attempt, Verdict]:
    """Send a claimed delivery and judge what came back."""
    at = rt.clock()
    body = delivery.payload.encode()
    signed = headers(delivery.message_id, at // SECOND, body, work.secrets)
    started = time.perf_counter()
    answer: Answer | None = None
    error: str | None = None
    try:
        answer = await client.post(
            work.endpoint.url,
            headers={"content-type": "application/json", "user-agent": f"licensesvc/{__version__}", **signed},
            body=body,
        )
    except OutboundRefused as refused:
        error = f"not called: {refused}"
    except OutboundFailed as failed:
        error = str(failed)
    except Exception as failure:  # noqa: BLE001 - whatever a receiver makes the client stumble over is a failed attempt
        error = type(failure).__name__
    made = Attempt(
        at=at,
        duration_ms=round((time.perf_counter() - started) * SECOND),
        status=answer.status if answer else None,
        error=error,
        answer=_printable(answer.body) if answer else "",
    )
    verdict = judge(
        made.status,
        attempts=delivery.attempts + 1,
        now=rt.clock(),
        jitter=int.from_bytes(rt.entropy(4)) / 2**32,
        retry_after=answer.retry_after if answer else None,
    )
    return made, verdict


async def record(tx: Tx, commands: Sequence[Finished]) -> Sequence[bool]:
    """The verb that writes attempts down (`Database.submit`); False = the claim was lost, another attempt counts."""
    # In order of the endpoints, whose rows are locked first.
    written = {}
    for number, done in sorted(enumerate(commands), key=lambda numbered: numbered[1].delivery.endpoint_id):
        written[number] = await _record(tx, done)
    return [written[number] for number in range(len(commands))]


async def _record(tx: Tx, done: Finished) -> bool:
    delivery, verdict, now = done.delivery, done.verdict, done.now
    endpoint = await webhook_endpoints.by_id(tx, delivery.endpoint_id, lock=True)
    if not await webhook_deliveries.record(
        tx, delivery, (*delivery.log, done.attempt), due_at=verdict.due_at, outcome=verdict.outcome, now=now
    ):
        return False
    if endpoint is None:  # deleted meanwhile
        return True
    if verdict.outcome is Outcome.DELIVERED:
        if endpoint.failing_since is not None or endpoint.paused_until is not None:
            await webhook_endpoints.note_health(tx, endpoint.id, failing_since=None, paused_until=None)
        return True
    failing_since = endpoint.failing_since if endpoint.failing_since is not None else now
    pause = max(endpoint.paused_until or 0, verdict.pause_until or 0) or None
    await webhook_endpoints.note_health(tx, endpoint.id, failing_since=failing_since, paused_until=pause)
    too_long = has_failed_too_long(endpoint.failing_since, now, done.failing_days)
    if endpoint.disabled_at is None and (verdict.gone or too_long):
        why = Why.GONE if verdict.gone else Why.FAILING
        changed = msgspec.structs.replace(
            endpoint, disabled_at=now, disabled_why=why, failing_since=failing_since, paused_until=pause
        )
        await disable(tx, changed, by="system", now=now)
    return True


async def disable(tx: Tx, endpoint: StoredEndpoint, *, by: str, now: Instant) -> None:
    """Store an endpoint that was locked and is disabled from now on, and tell the audit, from where other endpoints learn it."""
    assert endpoint.disabled_why is not None
    stored = await webhook_endpoints.update(tx, endpoint)
    assert stored  # it is locked
    detail: dict[str, str | int | None] = {"why": endpoint.disabled_why.value, "failing_since": endpoint.failing_since}
    event = AuditEvent(at=now, actor=by, kind="webhook_endpoint.disabled", subject=endpoint.public_id, detail=detail)
    await audit.append(tx, [event])
    if endpoint.disabled_why is not Why.OPERATOR:
        structlog.get_logger(__name__).error(
            "webhook_endpoint_disabled", endpoint=endpoint.public_id, why=endpoint.disabled_why.value
        )


def _printable(body: bytes) -> str:
    text = body.decode("utf-8", errors="replace")
    return "".join(symbol if symbol.isprintable() else " " for symbol in text)[:ANSWER_CHARACTERS]
