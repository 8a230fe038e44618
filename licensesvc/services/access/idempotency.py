"""One effect and one answer for each idempotency key: the effect, and the answer that tells of it, commit together.

In: finding, keeping and replaying answers. Out: what the answers say. Answers are sealed, for some show a secret once.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from licensesvc.domain.errors import IdempotencyKeyReused, InProgress
from licensesvc.domain.instants import DAY
from licensesvc.services.runtime import Runtime
from licensesvc.storage import messages
from licensesvc.storage.messages import KeptAnswer
from licensesvc.storage.port import ConstraintViolated, Tx

KEPT_FOR: Final = DAY
"""Milliseconds."""

_TABLE: Final = "idempotency_keys"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The status and the body bytes of an answer; `replayed` when they were given before."""

    status: int
    body: bytes
    replayed: bool = False

    def __repr__(self) -> str:
        return f"Answer({self.status})"


class Keyed(msgspec.Struct, frozen=True, kw_only=True):
    """A request under an idempotency key; `scope` says whose key it is, `request_hash` tells the request from others."""

    scope: str
    key: str
    request_hash: str


def request_hash(method: str, path: str, body: bytes) -> str:
    """Return what makes a request the same again: 64 hex digits over method, path with query, and body."""
    return hashlib.sha256(b"\n".join((method.encode(), path.encode(), body))).hexdigest()


def answer_context(scope_and_key: str) -> str:
    """What the vault binds a kept answer to: its scope and its key, with a colon between them."""
    return f"idempotency:{scope_and_key}"


async def answer_once(rt: Runtime, keyed: Keyed | None, work: Callable[[Tx], Awaitable[Answer]]) -> Answer:
    """Run `work` in a write transaction and keep its answer under the key, or give the kept answer without running it.

    Without a key it just runs. Raises IdempotencyKeyReused, and InProgress when another process was faster by a moment.
    """
    if keyed is None:
        return await rt.db.write(work)
    try:
        return await rt.db.write(lambda tx: _once(tx, rt, keyed, work))
    except ConstraintViolated as refused:
        if _TABLE in refused.name:
            raise InProgress from None
        raise


async def _once(tx: Tx, rt: Runtime, keyed: Keyed, work: Callable[[Tx], Awaitable[Answer]]) -> Answer:
    context = answer_context(f"{keyed.scope}:{keyed.key}")
    now = rt.clock()
    kept = await messages.kept_answer(tx, keyed.scope, keyed.key, forget_before=now - KEPT_FOR)
    if kept is not None:
        if kept.request_hash != keyed.request_hash:
            raise IdempotencyKeyReused
        return Answer(status=kept.status, body=rt.vault.open(kept.response, context), replayed=True)
    answer = await work(tx)
    sealed = rt.vault.seal(answer.body, context)
    await messages.keep_answer(
        tx,
        keyed.scope,
        keyed.key,
        KeptAnswer(request_hash=keyed.request_hash, status=answer.status, response=sealed),
        now,
    )
    return answer
