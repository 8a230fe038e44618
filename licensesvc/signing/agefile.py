"""Encrypted files in the age format (age-encryption.org/v1), written and read as streams.

In: recipients, identities, pass phrases. Out: what the files contain. A file for recipients is a plain age file. One for a pass
phrase begins with an age identity made for it alone, encrypted with the pass phrase and armored, as `age-keygen | age -p -a` makes it;
the stream behind it is encrypted for that identity, because pyrage encrypts for a pass phrase only what lies in memory as a whole.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import pyrage
from pyrage.x25519 import Identity, Recipient

from licensesvc.signing.privatefiles import create_private, read_private

PASSPHRASE_CHARACTERS: Final = 12
"""The shortest pass phrase that is taken."""

_BEGIN: Final = b"-----BEGIN AGE ENCRYPTED FILE-----\n"
_END: Final = b"-----END AGE ENCRYPTED FILE-----\n"
_LONGEST_ENVELOPE: Final = 4096
_IDENTITY_LINE: Final = "AGE-SECRET-KEY-"

Unlock: TypeAlias = str | Sequence[Identity]
"""A pass phrase, or the identities that may be among the recipients."""


class UnusableRecipient(ValueError):
    """A text that is no age recipient, or an identity file without an identity."""


class CannotDecrypt(Exception):
    """The file is for others, or it was changed or cut; one line."""


def recipient(text: str) -> Recipient:
    """The recipient that `age1…` names. UnusableRecipient."""
    try:
        return Recipient.from_str(text.strip())
    except pyrage.RecipientError:
        raise UnusableRecipient("a recipient looks like age1…: `licensesvc backup-key FILE` makes one") from None


def create_identity(path: Path) -> str:
    """A new identity in a file of its own, 0600; return its recipient. FileExistsError."""
    identity = Identity.generate()
    public = str(identity.to_public())
    create_private(path, f"# public key: {public}\n{identity}\n".encode())
    return public


def load_identities(path: Path) -> Sequence[Identity]:
    """The identities in a file as `age-keygen` writes it. LooseFile, UnusableRecipient, OSError."""
    lines = read_private(path).decode("ascii", errors="replace").splitlines()
    try:
        found = [Identity.from_str(line.strip()) for line in lines if line.startswith(_IDENTITY_LINE)]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise UnusableRecipient(f"{path}: holds no usable age identity ({_IDENTITY_LINE}…)")
    return found


@contextmanager
def encrypting(target: BinaryIO, to: str | Sequence[Recipient]) -> Iterator[BinaryIO]:
    """A file to write plaintext into, which arrives in `target` encrypted to a pass phrase or to recipients.

    Its `write` blocks while the disk is behind. An error of `target`, such as a full disk, is raised here.
    """
    if isinstance(to, str):
        identity = Identity.generate()
        target.write(pyrage.passphrase.encrypt(str(identity).encode(), to, armored=True))
        to = [identity.to_public()]
    recipients = to
    source, sink = _pipe()

    def encrypt() -> None:
        with source:
            try:
                pyrage.encrypt_io(source, target, recipients)
            except pyrage.EncryptError as error:
                raise OSError(str(error).removeprefix("OSError: ")) from None

    with ThreadPoolExecutor(1, thread_name_prefix="age") as thread:
        working = thread.submit(encrypt)
        try:
            with sink:
                yield sink
        except BrokenPipeError:
            working.result()  # tells why nobody reads on
            raise
        working.result()


@contextmanager
def decrypting(source: BinaryIO, unlock: Unlock) -> Iterator[BinaryIO]:
    """A file to read the plaintext from. CannotDecrypt, at the latest when the context ends, even in place of another error.

    What was read is proven only once the context has ended.
    """
    identities = [_unwrap(source, unlock)] if isinstance(unlock, str) else _for_recipients(source, unlock)
    reading, sink = _pipe()

    def decrypt() -> None:
        with sink:
            pyrage.decrypt_io(source, sink, identities)

    with ThreadPoolExecutor(1, thread_name_prefix="age") as thread:
        working = thread.submit(decrypt)
        try:
            with reading:
                yield reading
        finally:
            _check(working)


def _check(working: Future[None]) -> None:
    try:
        working.result()
    except BrokenPipeError:
        return  # the reader had seen enough
    except (pyrage.DecryptError, OSError) as error:
        stranger = "No matching keys" in str(error)
        reason = "it is encrypted for another recipient" if stranger else "it was changed or cut, or is no backup"
        raise CannotDecrypt(reason) from None


def _unwrap(source: BinaryIO, passphrase: str) -> Identity:
    start = source.read(len(_BEGIN))
    if start != _BEGIN:
        raise CannotDecrypt("it is not encrypted with a pass phrase: use the identity file of its recipient")
    envelope = start
    while not envelope.endswith(_END) and len(envelope) < _LONGEST_ENVELOPE and (line := source.readline(128)):
        envelope += line
    try:
        return Identity.from_str(pyrage.passphrase.decrypt(envelope, passphrase).decode("ascii"))
    except (pyrage.DecryptError, pyrage.IdentityError, OSError, ValueError):
        raise CannotDecrypt("the pass phrase is wrong, or the beginning of the file was changed or cut") from None


def _for_recipients(source: BinaryIO, identities: Sequence[Identity]) -> Sequence[Identity]:
    start = source.read(len(_BEGIN))
    source.seek(0)
    if start == _BEGIN:
        raise CannotDecrypt("it is encrypted with a pass phrase: use that")
    return identities


def _pipe() -> tuple[BinaryIO, BinaryIO]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
