"""Encrypted files: what decrypts, what is refused and how, what a full disk leaves."""

import io

import pytest
from pyrage.x25519 import Identity

from licensesvc.signing import agefile
from licensesvc.signing.agefile import CannotDecrypt, UnusableRecipient, decrypting, encrypting

PHRASE = "correct horse battery"
CONTENT = bytes(range(256)) * 1000
IDENTITY = Identity.generate()


@pytest.fixture(scope="module", params=["recipient", "pass phrase"])
def sealed(request) -> tuple[bytes, agefile.Unlock]:
    to, unlock = (PHRASE, PHRASE) if request.param == "pass phrase" else ([IDENTITY.to_public()], [IDENTITY])
    return encrypted(to), unlock


def encrypted(to) -> bytes:
    target = io.BytesIO()
    with encrypting(target, to) as sink:
        for start in range(0, len(CONTENT), 1000):
            sink.write(CONTENT[start : start + 1000])
    return target.getvalue()


def decrypted(data: bytes, unlock: agefile.Unlock) -> bytes:
    with decrypting(io.BytesIO(data), unlock) as source:
        return source.read()


def test_what_was_written_is_read_again(sealed):
    data, unlock = sealed

    assert decrypted(data, unlock) == CONTENT
    assert CONTENT[:64] not in data


def test_a_file_cut_anywhere_is_refused():
    data = encrypted([IDENTITY.to_public()])

    for length in [0, 30, *range(100, len(data), len(data) // 40), len(data) - 1]:
        with pytest.raises(CannotDecrypt):
            decrypted(data[:length], [IDENTITY])


@pytest.mark.parametrize("length", [100, 10_000])
def test_a_file_for_a_pass_phrase_cut_in_either_part_is_refused(length):
    with pytest.raises(CannotDecrypt):
        decrypted(encrypted(PHRASE)[:length], PHRASE)


@pytest.mark.parametrize("place", [-1, -200_000])
def test_a_file_with_one_changed_bit_is_refused(sealed, place):
    data, unlock = sealed
    changed = bytearray(data)
    changed[place] ^= 1

    with pytest.raises(CannotDecrypt, match="changed or cut"):
        decrypted(bytes(changed), unlock)


def test_who_is_no_recipient_learns_just_that():
    with pytest.raises(CannotDecrypt, match="another recipient"):
        decrypted(encrypted([IDENTITY.to_public()]), [Identity.generate()])


def test_a_wrong_pass_phrase_is_named():
    with pytest.raises(CannotDecrypt, match="the pass phrase is wrong"):
        decrypted(encrypted(PHRASE), "wrong horse battery")


def test_the_wrong_kind_of_secret_is_named():
    with pytest.raises(CannotDecrypt, match="use the identity file"):
        decrypted(encrypted([IDENTITY.to_public()]), PHRASE)
    with pytest.raises(CannotDecrypt, match="with a pass phrase"):
        decrypted(encrypted(PHRASE), [IDENTITY])


def test_a_reader_that_stops_early_keeps_its_own_error(sealed):
    data, unlock = sealed

    def read_a_little():
        with decrypting(io.BytesIO(data), unlock) as source:
            raise KeyError(source.read(10))

    with pytest.raises(KeyError):
        read_a_little()


def test_a_full_disk_is_told_to_the_writer():
    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() > 100_000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    def write_much():
        with encrypting(Full(), [IDENTITY.to_public()]) as sink:
            for _ in range(1000):
                sink.write(CONTENT)

    with pytest.raises(OSError, match="No space left"):
        write_much()


@pytest.mark.parametrize("text", ["", "age1", "AGE-SECRET-KEY-1", "age1" + "q" * 58])
def test_what_is_no_recipient_is_refused_without_repeating_it(text):
    with pytest.raises(UnusableRecipient) as refused:
        agefile.recipient(text)
    assert not text or text not in str(refused.value).replace("age1…", "")


def test_an_identity_in_place_of_a_recipient_is_refused_without_repeating_it():
    with pytest.raises(UnusableRecipient) as refused:
        agefile.recipient(str(IDENTITY))
    assert str(IDENTITY) not in str(refused.value)


def test_an_identity_file_is_private_and_found_again(tmp_path):
    public = agefile.create_identity(tmp_path / "id")

    assert (tmp_path / "id").stat().st_mode & 0o777 == 0o600
    assert [str(found.to_public()) for found in agefile.load_identities(tmp_path / "id")] == [public]
    with pytest.raises(FileExistsError):
        agefile.create_identity(tmp_path / "id")


@pytest.mark.parametrize("content", ["", "# only a comment\n", "AGE-SECRET-KEY-1NONSENSE\n", "age1abc\n"])
def test_a_file_without_identity_is_refused(tmp_path, content):
    file = tmp_path / "id"
    file.touch(mode=0o600)
    file.write_text(content)

    with pytest.raises(UnusableRecipient, match="no usable age identity"):
        agefile.load_identities(file)
