"""Encryption of sensitive fields in the V1 dialect (spec §4.4): AES-CBC under a key drawn from Java's SHA1PRNG.

In: key derivation, encrypt, decrypt. Out: which fields are encrypted. The scheme is the marketplace's, weak, and used
for nothing else.
"""

from base64 import b64decode, b64encode
from enum import IntEnum
from hashlib import sha1

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from licensesvc.domain.errors import InvalidParameter

IV_LENGTH = 16


class EncryptType(IntEnum):
    """The protocol's `encryptType`."""

    AES256 = 1
    AES128 = 2


def derive_key(access_key: str, encrypt_type: EncryptType = EncryptType.AES256) -> bytes:
    """Return what Java's `KeyGenerator("AES")` seeded with the access key's UTF-8 bytes returns: 32 or 16 bytes."""
    state = _sha1(access_key.encode())
    first = _sha1(state)
    if encrypt_type is EncryptType.AES128:
        return first[:16]
    return first + _sha1(_next_state(state, first))[:12]


def encrypt(plaintext: str, access_key: str, iv: str, encrypt_type: EncryptType = EncryptType.AES256) -> str:
    """Return the wire form iv ‖ base64(ciphertext); `iv` is 16 random ASCII letters or digits, never used twice."""
    padder = PKCS7(AES.block_size).padder()
    padded = padder.update(plaintext.encode()) + padder.finalize()
    encryptor = _cipher(access_key, iv.encode("ascii"), encrypt_type).encryptor()
    return iv + b64encode(encryptor.update(padded) + encryptor.finalize()).decode()


def decrypt(wire: str, access_key: str, encrypt_type: EncryptType = EncryptType.AES256) -> str:
    """Read the wire form back; raises `InvalidParameter` for anything that was not encrypted under this key."""
    try:
        iv, ciphertext = wire[:IV_LENGTH].encode("ascii"), b64decode(wire[IV_LENGTH:], validate=True)
        decryptor = _cipher(access_key, iv, encrypt_type).decryptor()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        unpadder = PKCS7(AES.block_size).unpadder()
        return (unpadder.update(padded) + unpadder.finalize()).decode()
    except ValueError:
        raise InvalidParameter("encrypted value is not readable") from None


def _cipher(access_key: str, iv: bytes, encrypt_type: EncryptType) -> Cipher[CBC]:
    return Cipher(AES(derive_key(access_key, encrypt_type)), CBC(iv))


def _sha1(data: bytes) -> bytes:
    return sha1(data, usedforsecurity=False).digest()


def _next_state(state: bytes, output: bytes) -> bytes:
    # SUN's SecureRandom.updateState: byte-wise from index 0, signed bytes, arithmetic carry that starts at 1.
    carry = 1
    result = bytearray()
    for old, new in zip(state, output, strict=True):
        total = _signed(old) + _signed(new) + carry
        result.append(total & 0xFF)
        carry = total >> 8
    if result == state:
        result[0] = (result[0] + 1) & 0xFF
    return bytes(result)


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte  # noqa: PLR2004 - the sign bit
