"""The proof store: one file for the same bytes, names that survive a power cut, and nothing of what is no proof."""

import asyncio
import hashlib
import io
import os
import zipfile

import pytest

from licensesvc.domain.errors import InvalidParameter
from licensesvc.services.supervision import proof_store
from licensesvc.services.supervision.proof_store import MAX_SIZE, PIECE, STALE_S, put_proof, receive_proof
from licensesvc.services.supervision.proof_types import DOCX, MAX_DIRECTORY, MEDIA_TYPES, PDF, XLSX, ZIP
from licensesvc.signing.privatefiles import private_directory
from licensesvc.storage.port import StorageUnavailable

PROOF = b"%PDF-1.7 delivered"
DIGEST = hashlib.sha256(PROOF).hexdigest()


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        for name in names:
            opened.writestr(name, "x")
    return content.getvalue()


GOOD = {
    PDF: PROOF,
    "image/png": b"\x89PNG\r\n\x1a\n....",
    "image/jpeg": b"\xff\xd8\xff\xe0....",
    "text/plain": "验收通过\r\naccepted\n".encode(),
    DOCX: archive("[Content_Types].xml", "word/document.xml"),
    XLSX: archive("[Content_Types].xml", "xl/workbook.xml"),
    ZIP: archive("a.txt"),
}


async def pieces(data: bytes, size: int = 7):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def store(directory, media_type: str, data: bytes, size: int = 1 << 16) -> str:
    return (await receive_proof(directory, media_type, pieces(data, size))).sha256


@pytest.fixture
def proofs(tmp_path):
    return private_directory(tmp_path / "proofs")


@pytest.fixture
def synced(monkeypatch):
    """Which directories were synced, and what each of them held then."""
    calls = []
    sync = proof_store.sync_directory

    def spy(path):
        calls.append((path.name, sorted(entry.name for entry in path.iterdir() if entry.name[0] != ".")))
        sync(path)

    monkeypatch.setattr(proof_store, "sync_directory", spy)
    return calls


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
async def test_the_same_proof_twice_is_one_private_file(proofs, size):
    digests = [await store(proofs, PDF, PROOF, size) for _ in range(2)]

    assert digests == [DIGEST, DIGEST]
    assert put_proof(proofs, PROOF) == DIGEST
    [file] = [path for path in proofs.rglob("*") if path.is_file()]
    assert file == proofs / DIGEST[:2] / DIGEST
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (PROOF, 0o600)


@pytest.mark.parametrize("times", [1, 2])
async def test_the_names_of_file_and_shelf_are_on_disk_when_it_returns(proofs, synced, times):
    for _ in range(times):  # the first call may have died before it synced
        synced.clear()
        await store(proofs, PDF, PROOF)

    assert synced == [(DIGEST[:2], [DIGEST]), ("proofs", [DIGEST[:2]])]


def test_every_type_has_an_example():
    assert set(GOOD) == MEDIA_TYPES


@pytest.mark.parametrize("media_type", sorted(MEDIA_TYPES))
async def test_a_file_is_taken_as_what_it_is_and_as_nothing_else(proofs, media_type):
    for other, data in GOOD.items():
        # Word and Excel files are archives, whatever else they are; this PDF has nothing in it that is no text.
        if other == media_type or (media_type, other) in {(ZIP, DOCX), (ZIP, XLSX), ("text/plain", PDF)}:
            assert await store(proofs, media_type, data) == hashlib.sha256(data).hexdigest()
        else:
            with pytest.raises(InvalidParameter):
                await store(proofs, media_type, data)


BAD = {
    "nothing": b"",
    "zeros": b"\0\0",
    "html": b"<html><script>alert(1)</script>",
    "a program": b"MZ\x90\x00\x03",
    "a late mark": b"x%PDF-1.7",
    "half an archive": GOOD[DOCX][:-10],
    "an archive's mark": b"PK\x03\x04 and nothing more",
    "an empty archive": archive(),
    "utf-16": "text".encode("utf-16"),
    "half a character": "验".encode()[:-1],
    "escape": b"a\x1b[31m",
}


@pytest.mark.parametrize("fault", BAD)
async def test_what_is_of_no_type_leaves_nothing(proofs, fault):
    for media_type in MEDIA_TYPES - ({"text/plain"} if fault in {"html", "a late mark"} else set()):
        with pytest.raises(InvalidParameter):
            await store(proofs, media_type, BAD[fault])

    assert list(proofs.iterdir()) == []


async def test_the_table_of_contents_of_an_archive_is_bounded(proofs):
    """A reader takes it into memory whole, so a long one is refused before it is read."""
    long = io.BytesIO()
    with zipfile.ZipFile(long, "w") as opened:
        for number in range(MAX_DIRECTORY // 1_000 + 1):
            opened.writestr(f"{number:06}" + "x" * 1_000, "")

    with pytest.raises(InvalidParameter):
        await store(proofs, ZIP, long.getvalue())


async def test_text_is_checked_beyond_its_first_piece(proofs):
    text = ("验" * PIECE).encode()
    assert await store(proofs, "text/plain", text)
    with pytest.raises(InvalidParameter):
        await store(proofs, "text/plain", text + b"\0")


async def test_one_byte_too_many_is_refused_and_the_memory_stays_small(proofs):
    async def endless():
        while True:
            yield b"%PDF" + bytes(PIECE)

    with pytest.raises(InvalidParameter, match=str(MAX_SIZE)):
        await receive_proof(proofs, PDF, endless())
    assert list(proofs.iterdir()) == []
    whole = PROOF + bytes(MAX_SIZE - len(PROOF))
    assert (await receive_proof(proofs, PDF, pieces(whole, 1 << 20))).size == MAX_SIZE


class HungUp(Exception):
    pass


async def test_a_client_that_hangs_up_leaves_nothing(proofs):
    async def half():
        yield PROOF * PIECE
        raise HungUp

    with pytest.raises(HungUp):
        await receive_proof(proofs, PDF, half())
    assert list(proofs.iterdir()) == []


async def test_a_cancelled_upload_leaves_nothing(proofs):
    begun = asyncio.Event()

    async def stalled():
        yield PROOF
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(receive_proof(proofs, PDF, stalled()))
    await begun.wait()
    assert [path.name[:8] for path in proofs.iterdir()] == [".upload."]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(proofs.iterdir()) == []


async def test_what_a_dead_process_left_is_swept_away_and_what_a_living_one_writes_stays(proofs):
    for name, age in ((".upload.dead", STALE_S + 60), (".upload.alive", 0)):
        file = proofs / name
        file.write_bytes(b"x")
        os.utime(file, (file.stat().st_mtime - age,) * 2)

    await store(proofs, PDF, PROOF)

    assert sorted(path.name for path in proofs.iterdir()) == [".upload.alive", DIGEST[:2]]


async def test_a_disk_that_takes_nothing_is_an_outage(tmp_path):
    with pytest.raises(StorageUnavailable):
        await store(tmp_path / "missing", PDF, PROOF)
