"""The proof store: one file for the same bytes, and names that survive a power cut."""

import hashlib

import pytest

from licensesvc.domain.errors import InvalidParameter
from licensesvc.services import proof_store
from licensesvc.services.proof_store import store_proof
from licensesvc.signing.privatefiles import private_directory

PROOF = b"%PDF-1.7 delivered"
DIGEST = hashlib.sha256(PROOF).hexdigest()


@pytest.fixture
def proofs(tmp_path):
    return private_directory(tmp_path / "proofs")


@pytest.fixture
def synced(monkeypatch):
    """Which directories were synced, and what each of them held then."""
    calls = []
    sync = proof_store.sync_directory

    def spy(path):
        calls.append((path.name, [entry.name for entry in path.iterdir()]))
        sync(path)

    monkeypatch.setattr(proof_store, "sync_directory", spy)
    return calls


async def test_the_same_proof_twice_is_one_private_file(proofs):
    digests = [await store_proof(proofs, "application/pdf", PROOF) for _ in range(2)]

    assert digests == [DIGEST, DIGEST]
    [file] = [path for path in proofs.rglob("*") if path.is_file()]
    assert file == proofs / DIGEST[:2] / DIGEST
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (PROOF, 0o600)


@pytest.mark.parametrize("times", [1, 2])
async def test_the_names_of_file_and_shelf_are_on_disk_when_it_returns(proofs, synced, times):
    for _ in range(times):  # the first call may have died before it synced
        synced.clear()
        await store_proof(proofs, "application/pdf", PROOF)

    assert synced == [(DIGEST[:2], [DIGEST]), ("proofs", [DIGEST[:2]])]


@pytest.mark.parametrize("media_type", sorted(proof_store.MEDIA_TYPES))
async def test_what_is_not_of_its_media_type_leaves_nothing(proofs, media_type):
    for data in (b"", b"\0\0"):
        with pytest.raises(InvalidParameter):
            await store_proof(proofs, media_type, data)

    assert list(proofs.iterdir()) == []
