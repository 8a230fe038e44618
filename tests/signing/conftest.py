"""A keyset and a vault shared by the tests that do not change them, and a maker of signed and forged tokens."""

import json
from pathlib import Path

import pytest

from licensesvc.signing import base64url, keyset, vault
from licensesvc.signing.keyset import Keyset
from licensesvc.signing.vault import Vault

CREATED_AT = 1_800_000_000_000


@pytest.fixture(scope="session")
def keys(tmp_path_factory) -> Keyset:
    return keyset.create(tmp_path_factory.mktemp("keys") / "signing-keys.json", CREATED_AT)


@pytest.fixture(scope="session")
def vault_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("vault") / "vault-keys.json"
    vault.create(path)
    return path


@pytest.fixture(scope="session")
def sealer(vault_file) -> Vault:
    return vault.load(vault_file)


class Mint:
    """Makes tokens under the active key out of any header and claims, however wrong; bytes go in as they are."""

    def __init__(self, keys: Keyset) -> None:
        self.private = keys.active.private
        self.kid = keys.active.kid
        self.header = {"alg": "EdDSA", "kid": self.kid, "typ": "license+jwt"}
        self.claims = {"iss": "https://seller.example", "jti": "doc_1", "iat": 1_800_000_000, "exp": 1_800_600_000}

    def token(self, header=None, claims=None, sign=None) -> str:
        parts = [self.header if header is None else header, self.claims if claims is None else claims]
        head, body = (base64url.encode(p if isinstance(p, bytes) else json.dumps(p).encode()) for p in parts)
        signature = (sign or self.private.sign)(f"{head}.{body}".encode())
        return f"{head}.{body}.{base64url.encode(signature)}"

    def with_header(self, **changes) -> str:
        return self.token(header=self.header | changes)

    def with_claims(self, **changes) -> str:
        return self.token(claims=self.claims | changes)

    def without_claim(self, name) -> str:
        return self.token(claims={k: v for k, v in self.claims.items() if k != name})

    def without_header(self, name) -> str:
        return self.token(header={k: v for k, v in self.header.items() if k != name})


@pytest.fixture(scope="session")
def mint(keys) -> Mint:
    return Mint(keys)
