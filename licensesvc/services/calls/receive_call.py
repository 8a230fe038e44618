"""Carries out a call of the marketplace, whoever brings it: the callback's own request, or a stored message that is restarted.

In: a parsed call. Out: HTTP and signatures (web/callbacks), the words of the dialects (marketplace/huawei/callbacks.py). The same call again
has the same answer, to the byte, and no further effect.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import (
    DomainError,
    InProgress,
    InvalidParameter,
    LicenseNotFound,
    NotIssuable,
    OrderConflict,
    StaleVersion,
)
from licensesvc.domain.instants import SECOND, Instant
from licensesvc.domain.marketplace_calls import Refresh
from licensesvc.domain.policy import LicenseField
from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.callbacks import Call
from licensesvc.marketplace.huawei.periods import period_of
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.services.calls import change_by_call, get_license, rehearse_call
from licensesvc.services.calls.change_by_call import Caller
from licensesvc.services.calls.confirm_acceptance import Instance, acceptance_time, confirm_acceptance
from licensesvc.services.calls.learn_code import learn_code
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.sign_license import first_document
from licensesvc.services.orders import notify_order
from licensesvc.services.runtime import Runtime
from licensesvc.storage import license_calls, licenses, messages
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import ConstraintViolated, Tx

NONCE_LIFE: Final = 180 * SECOND
"""Longer than a signature is fresh (±60 s), so a nonce is remembered for as long as it could be replayed."""
TRIES: Final = 2
"""Of a call that met another one about the same, unknown until then, code or order."""
RESULT_CODES: Final[Mapping[type[DomainError], CallbackCode]] = {
    InvalidParameter: CallbackCode.INVALID_PARAMETER,
    OrderConflict: CallbackCode.INVALID_PARAMETER,
    NotIssuable: CallbackCode.INVALID_PARAMETER,
    LicenseNotFound: CallbackCode.UNKNOWN_LICENSE,
    InProgress: CallbackCode.IN_PROGRESS,
}
"""What a refusal is called on the wire (spec §2.1); every other one is an internal error, which the marketplace tries again."""

Effect: TypeAlias = Callable[[Tx], Awaitable[Any]]
"""What a call does to the database; the result is a note for whoever reads the message, or what getLicense delivers."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a call that was carried out, and what is worth noting about it (no secrets, at most a line).

    `kept` says that `keep` stored it together with the effect.
    """

    body: bytes
    note: str | None = None
    kept: bool = False

    def __repr__(self) -> str:
        return f"Received(note={self.note!r})"


Keep: TypeAlias = Callable[[Tx, Received], Awaitable[None]]
"""Stores the message of a call in the transaction of its effect."""


async def receive_call(
    rt: Runtime,
    connection: Connection,
    call: Call,
    *,
    nonce: str | None,
    by: str,
    source: str,
    keep: Keep | None = None,
) -> Received:
    """Carry out `call` and return its success answer; `by` is whom the audit names, `source` the way the call came.

    A `nonce` is used up in the transaction of the effect: SignatureRefused where it was used before, here or in another process. `keep`
    is called in the same, wherever the answer is known by then: not for debug cases, and not where a document has to be signed.
    Raises LicenseNotFound, InProgress, InvalidParameter, OrderConflict, NotIssuable, ProductNotMapped.
    """
    caller = Caller(connection=connection, by=by, source=source)
    effect = _EFFECTS[type(call)](rt, caller, call)  # reads every field, also of a debug case
    if call.test:
        if nonce is not None:
            await rt.db.write(lambda tx: _use_nonce(tx, rt, connection, nonce))
        return Received(body=rehearse_call.answer(call))
    done = await _carried_out(rt, connection, effect, nonce, keep)
    if isinstance(done, Received):
        return done
    document = await first_document(rt, done.license_id)
    return Received(body=callbacks.get_license_success(document.document, done.instance_id))


async def _carried_out(
    rt: Runtime, connection: Connection, effect: Effect, nonce: str | None, keep: Keep | None
) -> Received | get_license.Issued:
    async def transact(tx: Tx) -> Received | get_license.Issued:
        if nonce is not None:
            await _use_nonce(tx, rt, connection, nonce)
        received = _answered(await effect(tx))
        if keep is None or isinstance(received, get_license.Issued):
            return received
        await keep(tx, received)
        return msgspec.structs.replace(received, kept=True)

    for _ in range(TRIES):
        try:
            return await rt.db.write(transact)
        except ConstraintViolated as met:
            if met.kind != "unique":
                raise
        except StaleVersion:
            continue
    raise InProgress


def _answered(done: object) -> Received | get_license.Issued:
    """The answer to what an effect did; what was issued, where a document is delivered, which is signed after the commit."""
    match done:
        case get_license.Issued(field=LicenseField.CODE):
            return Received(body=callbacks.get_license_success(done.code, done.instance_id))
        case get_license.Issued():
            return done
        case Instance():
            return Received(body=callbacks.new_instance_success(done.id))
        case str() | None:
            return Received(body=callbacks.result(CallbackCode.SUCCESS), note=done)
        case _:
            raise TypeError(type(done))


async def _use_nonce(tx: Tx, rt: Runtime, connection: Connection, nonce: str) -> None:
    now = rt.clock()
    if not await messages.use_nonce(tx, connection.id, nonce, now=now, expires_at=now + NONCE_LIFE):
        raise SignatureRefused("nonce was used before")


def _get_license(rt: Runtime, caller: Caller, call: callbacks.GetLicense) -> Effect:
    facts = get_license.facts_of(call, caller.connection.wire)
    return lambda tx: get_license.issue(tx, rt, caller.connection, call, facts, by=caller.by)


def _order_notify(rt: Runtime, caller: Caller, call: callbacks.OrderNotify) -> Effect:
    return lambda tx: notify_order.queue_query(tx, rt, caller.connection, call)


def _refresh_license_code(rt: Runtime, caller: Caller, call: callbacks.RefreshLicenseCode) -> Effect:
    new = Refresh(
        order_id=call.order_id,
        order_line_id=call.order_line_id,
        scene=call.scene,
        expires_at=get_license.expire_time(call.expire_time, caller.connection.wire),
        product_id=call.product_id,
    )

    async def effect(tx: Tx) -> str | None:
        loaded = await _of_code(tx, rt, caller, call.license, product_id=call.product_id, ends_at=new.expires_at)
        return await change_by_call.refresh_license(tx, rt, caller, loaded, new)

    return effect


def _update_license_code_status(rt: Runtime, caller: Caller, call: callbacks.UpdateLicenseCodeStatus) -> Effect:
    change = {
        callbacks.Status.FREEZE: change_by_call.freeze_license,
        callbacks.Status.UNFREEZE: change_by_call.unfreeze_license,
    }[call.status]

    async def effect(tx: Tx) -> str | None:
        return await change(tx, rt, caller, await _of_code(tx, rt, caller, call.license))

    return effect


def _release_license_code(rt: Runtime, caller: Caller, call: callbacks.ReleaseLicenseCode) -> Effect:
    async def effect(tx: Tx) -> str | None:
        loaded = await _of_code(tx, rt, caller, call.license)
        return await change_by_call.release_license(
            tx, rt, caller, loaded, refund_order=call.order_id, refund_line=call.order_line_id
        )

    return effect


def _refresh_license(rt: Runtime, caller: Caller, call: callbacks.RefreshLicense) -> Effect:
    period_of(call.period_type, call.period_number)  # the end is absolute: only read for its form
    new = Refresh(
        order_id=call.order_id,
        order_line_id="",
        scene=None,
        expires_at=get_license.expire_time(call.expire_time, caller.connection.wire),
        product_id=call.product_id,
    )

    async def effect(tx: Tx) -> str | None:
        loaded = await _of_instance(tx, caller, call.instance_id)
        return await change_by_call.refresh_license(tx, rt, caller, loaded, new)

    return effect


def _expire_license(rt: Runtime, caller: Caller, call: callbacks.ExpireLicense) -> Effect:
    """License 1.0 has no word for a freeze: what has expired and may still be renewed is what License 2.0 freezes."""

    async def effect(tx: Tx) -> str | None:
        loaded = await _of_instance(tx, caller, call.instance_id)
        note = await change_by_call.freeze_license(tx, rt, caller, loaded)
        return note or _other_order(loaded, call.order_id)

    return effect


def _release_license(rt: Runtime, caller: Caller, call: callbacks.ReleaseLicense) -> Effect:
    async def effect(tx: Tx) -> str | None:
        loaded = await _of_instance(tx, caller, call.instance_id)
        note = await change_by_call.release_license(tx, rt, caller, loaded, refund_order=None, refund_line=None)
        return note or _other_order(loaded, call.order_id)

    return effect


def _new_instance(rt: Runtime, caller: Caller, call: callbacks.NewInstance) -> Effect:
    """No instances are opened here: what the call can bring is the buyer's acceptance of a line that we know."""
    accepted_at = acceptance_time(call.acceptance_time, caller.connection.wire)
    return lambda tx: confirm_acceptance(
        tx, rt, caller.connection, call.order_id, call.order_line_id, accepted_at, by=caller.by
    )


_EFFECTS: Final[Mapping[type, Callable[[Runtime, Caller, Any], Effect]]] = {
    callbacks.GetLicense: _get_license,
    callbacks.OrderNotify: _order_notify,
    callbacks.RefreshLicenseCode: _refresh_license_code,
    callbacks.UpdateLicenseCodeStatus: _update_license_code_status,
    callbacks.ReleaseLicenseCode: _release_license_code,
    callbacks.NewInstance: _new_instance,
    callbacks.RefreshLicense: _refresh_license,
    callbacks.ExpireLicense: _expire_license,
    callbacks.ReleaseLicense: _release_license,
}


async def _of_code(
    tx: Tx,
    rt: Runtime,
    caller: Caller,
    code: str,
    *,
    product_id: str | None = None,
    ends_at: Instant | None = None,
) -> LoadedLicense:
    """The license of a code, locked; learned where the connection says so. A foreign one is as unknown as none."""
    index = code_index(rt, code)
    loaded = (await licenses.by_codes(tx, [index], lock=True)).get(index)
    if loaded is None:
        return await learn_code(
            tx, rt, caller.connection, code, marketplace_product_id=product_id, ends_at=ends_at, by=caller.by
        )
    if loaded.view.connection_id != caller.connection.id:
        raise LicenseNotFound
    return loaded


async def _of_instance(tx: Tx, caller: Caller, instance_id: str) -> LoadedLicense:
    """The license of an instance (License 1.0), locked."""
    line_ref = await license_calls.line_of_instance(tx, caller.connection.id, instance_id)
    loaded = None if line_ref is None else await licenses.by_line(tx, line_ref, lock=True)
    if loaded is None:
        raise LicenseNotFound("the instance does not exist")
    return loaded


def _other_order(loaded: LoadedLicense, order_id: str) -> str | None:
    """The instance says which license is meant (spec §2.2); an order that does not belong to it is worth a look."""
    return None if loaded.order_id == order_id else "the call names another order than the one that bought the instance"
