"""Secrets and codes at rest: sealed so that only this installation opens them, indexed so that it finds them again.

In: `vault-keys.json`, authenticated encryption, keyed indexes. Out: which columns are sealed.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from licensesvc.domain.instants import Instant
from licensesvc.signing import base64url
from licensesvc.signing.privatefiles import LooseFile, changing, create_private, read_private, write_private

_KEY_BYTES = 32
_FORMAT = b"\x01"
_ID_BYTES = 2
_NONCE_BYTES = 12
_NONCE_AT = len(_FORMAT) + _ID_BYTES
_CIPHERTEXT_AT = _NONCE_AT + _NONCE_BYTES
_INDEX_BYTES = 16


class VaultDamaged(Exception):
    """The key file cannot be used as it is; one line that names the file and the problem."""

    def __init__(self, path: Path, problem: object) -> None:
        super().__init__(f"{path}: {problem}; restore it from a backup")
        self.path = path


class CannotOpen(Exception):
    """Sealed bytes that were changed, moved to another context, or sealed under a key that is not here."""


class _Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: Annotated[int, msgspec.Meta(ge=1, lt=2 ** (8 * _ID_BYTES))]
    secret: AESGCM
    created_at: Instant = 0


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    index: HMAC
    keys: Annotated[tuple[_Key, ...], msgspec.Meta(min_length=1)]


class Vault:
    """Seals and indexes. Sealed bytes: format (1) | key id (2, big-endian) | nonce (12) | ciphertext and tag.

    The newest key (highest id) seals, all open. Random nonces allow 2**32 seals a key (NIST SP 800-38D §8.3).
    """

    def __init__(self, file: _File, path: Path) -> None:
        self._ciphers = {key.id: key.secret for key in file.keys}
        if len(self._ciphers) != len(file.keys):
            raise ValueError("holds a key id twice")
        self.created_at = {key.id: key.created_at for key in file.keys}
        self.newest = max(self._ciphers)
        self._index = file.index
        self._path = path

    def follow(self, other: "Vault") -> None:
        """Use the keys of another state of the same file from now on."""
        vars(self).update(vars(other))

    def seal(self, plaintext: bytes, context: str) -> bytes:
        """`plaintext` sealed for `context`, the text that says where it belongs (such as table, column and row)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        ciphertext = self._ciphers[self.newest].encrypt(nonce, plaintext, context.encode())
        return _FORMAT + self.newest.to_bytes(_ID_BYTES, "big") + nonce + ciphertext

    def open(self, sealed: bytes, context: str) -> bytes:
        """What was sealed for this very `context`. CannotOpen otherwise."""
        cipher = self._cipher(int.from_bytes(sealed[len(_FORMAT) : _NONCE_AT], "big"))
        if not sealed.startswith(_FORMAT) or cipher is None:
            raise CannotOpen("sealed in an unknown format or under an unknown key")
        try:
            return cipher.decrypt(sealed[_NONCE_AT:_CIPHERTEXT_AT], sealed[_CIPHERTEXT_AT:], context.encode())
        except (InvalidTag, ValueError):  # ValueError: cut within the nonce
            raise CannotOpen("changed, cut, or sealed for another context") from None

    def _cipher(self, key_id: int) -> AESGCM | None:
        if (
            key_id > self.newest
        ):  # another process has rotated: its key is in the file before anything is sealed with it
            with suppress(OSError, LooseFile, VaultDamaged):
                self.follow(load(self._path))
        return self._ciphers.get(key_id)

    def index(self, kind: str, text: str) -> str:
        """32 hex digits by which `text` is found without being stored; another `kind`, another index."""
        keyed = self._index.copy()
        # surrogatepass: a text from a stranger is looked up and not found, never an error.
        keyed.update(f"{kind}\0{text}".encode(errors="surrogatepass"))
        return keyed.finalize()[:_INDEX_BYTES].hex()


def create(path: Path) -> Vault:
    """A new file with one key; FileExistsError when there is one."""
    keys = [{"id": 1, "secret": _new_secret()}]
    data = msgspec.json.encode({"version": 1, "index": _new_secret(), "keys": keys})
    create_private(path, msgspec.json.format(data))
    return load(path)


def load(path: Path) -> Vault:
    """The vault of the file. FileNotFoundError, LooseFile, VaultDamaged."""
    return decode(read_private(path), path)


def decode(data: bytes, path: Path) -> Vault:
    """The vault in the contents of the file at `path`. VaultDamaged."""
    try:
        return Vault(msgspec.json.decode(data, type=_File, dec_hook=_from_text), path)
    except (msgspec.MsgspecError, ValueError) as error:
        raise VaultDamaged(path, error) from None


def add_key(path: Path, now: Instant) -> Vault:
    """Seal with a new key from now on; the others open on. Raises as `load`."""

    def add(keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        following = max(key["id"] for key in keys) + 1
        return [*keys, {"id": following, "secret": _new_secret(), "created_at": now}]

    return _rewrite(path, add)


def keep_newest(path: Path, newest: int) -> Vault:
    """Remove the keys older than `newest`, which nothing may need any more. Raises as `load`."""
    return _rewrite(path, lambda keys: [key for key in keys if key["id"] >= newest])


def _rewrite(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Vault:
    with changing(path):
        before = read_private(path)
        decode(before, path)
        document = msgspec.json.decode(before)
        document["keys"] = change(document["keys"])
        data = msgspec.json.format(msgspec.json.encode(document))
        changed = decode(data, path)
        write_private(path, data)
        return changed


def _new_secret() -> str:
    return base64url.encode(secrets.token_bytes(_KEY_BYTES))


def _from_text(kind: type, text: Any) -> AESGCM | HMAC:
    # Secrets become cipher objects while they are read: no later repr can show them.
    key = base64url.decode(text)
    if len(key) != _KEY_BYTES:
        raise ValueError(f"a secret must have {_KEY_BYTES} bytes")
    return AESGCM(key) if kind is AESGCM else HMAC(key, SHA256())
