"""The signed license: intent before signature, one signature a revision, any crash repaired by asking again."""

import asyncio
from dataclasses import replace

import pytest

from licensesvc.services.licenses.activate import activate
from licensesvc.services.licenses.sign_license import first_document, signed_license
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.signing import envelope
from licensesvc.storage import documents
from licensesvc.storage.port import StorageUnavailable
from tests.services.test_service_activation import activation
from tests.support_edges import rows


class Crash(Exception):
    """The process dies here."""


class CrashingSigner:
    """Signs, or dies before or after."""

    def __init__(self, signer, moment):
        self._signer = signer
        self._moment = moment
        self.kid = signer.kid
        self.believes = signer.believes

    def sign(self, signing_input):
        if self._moment == "before":
            raise Crash
        self._signer.sign(signing_input)
        raise Crash


class CrashingDatabase:
    """Dies at the nth write, before it begins or after its commit."""

    def __init__(self, db, at, *, committed):
        self._db = db
        self._left = at
        self._committed = committed
        self.read = db.read

    async def write(self, fn):
        self._left -= 1
        if self._left == 0 and not self._committed:
            raise Crash
        result = await self._db.write(fn)
        if self._left == 0:
            raise Crash
        return result


def claims_of(rt, signed):
    return envelope.verify(
        signed.document,
        typ=envelope.LICENSE_TYP,
        keys=rt.signer.keyset.verification_keys(),
        now=rt.clock(),
        issuer=rt.issuer,
    )


async def sold(shop):
    received = await shop.sell()
    return received.license.view.public_id


async def test_the_document_tells_the_license(shop):
    public_id = await sold(shop)

    signed = await signed_license(shop.rt, public_id)

    claims = claims_of(shop.rt, signed)
    assert (claims["sub"], claims["order"], claims["seats"], signed.revision) == (public_id, "CS1", 10, 1)
    assert (await audit_database(shop.rt)).clean


async def test_many_readers_at_once_get_the_same_bytes(shop):
    public_id = await sold(shop)

    answers = await asyncio.gather(*(signed_license(shop.rt, public_id) for _ in range(30)))

    assert len({answer.document for answer in answers}) == 1
    assert await rows(shop.rt, "license_documents") == [1]


async def test_new_facts_make_the_next_revision_and_the_first_stays(shop, clock):
    public_id = await sold(shop)
    first = await signed_license(shop.rt, public_id)
    clock.now += 86_400_000
    code = await shop.sell_code()  # the same order again changes nothing
    assert await signed_license(shop.rt, public_id) == first

    await shop.rt.db.submit(activate, activation(shop, code))
    second = await signed_license(shop.rt, public_id)

    assert second.revision == 2
    assert claims_of(shop.rt, second)["exp"] > claims_of(shop.rt, first)["exp"]
    assert await first_document(shop.rt, public_id) == first
    assert await signed_license(shop.rt, public_id) == second


@pytest.mark.parametrize("ask", [signed_license, first_document])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_crash_around_the_signature_is_repaired_by_asking_again(shop, clock, ask, moment):
    public_id = await sold(shop)
    dying = replace(shop.rt, signer=CrashingSigner(shop.rt.signer, moment))
    with pytest.raises(Crash):
        await ask(dying, public_id)
    kept = await shop.rt.db.read(lambda tx: documents.page(tx, after=(0, 0), limit=9))
    assert [document.signature for document in kept] == [None]

    clock.now += 5_000
    signed = await ask(shop.rt, public_id)

    assert signed.document.encode().startswith(kept[0].signing_input + b".")
    assert await ask(shop.rt, public_id) == signed


@pytest.mark.parametrize(("step", "committed"), [(1, False), (1, True), (2, False), (2, True)])
async def test_a_crash_at_any_write_is_repaired_by_asking_again(shop, clock, step, committed):
    received = await shop.sell()
    public_id = received.license.view.public_id
    await signed_license(shop.rt, public_id)
    clock.now += 86_400_000
    await shop.rt.db.submit(activate, activation(shop, await shop.sell_code()))  # the document is out of date now
    with pytest.raises(Crash):
        await signed_license(replace(shop.rt, db=CrashingDatabase(shop.rt.db, step, committed=committed)), public_id)
    after = await shop.rt.db.read(lambda tx: documents.latest(tx, received.license.view.id))

    clock.now += 5_000
    signed = await signed_license(shop.rt, public_id)

    assert signed.revision == 2
    if after.revision == 2:
        assert signed.document.encode().startswith(after.signing_input + b".")
    assert await signed_license(shop.rt, public_id) == signed
    assert (await audit_database(shop.rt)).clean


async def test_an_intent_that_a_rotation_outlived_is_signed_by_the_key_it_names(shop, tmp_path, clock):
    from licensesvc.signing import keyset
    from licensesvc.signing.signer import KeysetSigner

    public_id = await sold(shop)
    kid = shop.rt.signer.kid
    rotated = replace(shop.rt, signer=KeysetSigner(keyset.rotate(tmp_path / "data" / "signing-keys.json", clock.now)))

    signed = await signed_license(rotated, public_id)

    assert signed.kid == kid != rotated.signer.kid
    assert claims_of(rotated, signed)["sub"] == public_id


async def test_a_signature_that_cannot_be_stored_is_not_given_out(shop):
    public_id = await sold(shop)
    await shop.rt.db.close()

    with pytest.raises(StorageUnavailable):
        await signed_license(shop.rt, public_id)
