"""What the demonstration needs at the server and at the sandbox: made on the first run, found again on later ones."""

from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec

from licensesvc.cli.admin_client import AdminClient
from licensesvc.cli.errors import Failure
from licensesvc.sandbox.state import State, sandbox_file
from licensesvc.settings import Settings
from licensesvc.signing.privatefiles import private_directory, read_private, write_private

MARKETPLACE_PRODUCT: Final = "OFFI-DEMO-0001"

_CONNECTION: Final = "sandbox"
_TOKEN: Final = "first owner"  # noqa: S105 - a name
_POLICY: Final = {"name": "demo: as ordered", "term": "ORDER", "binding": "NODE_LOCKED", "entitlements": ["pro"]}
_ANSWER_SECONDS: Final = 10.0


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the story takes place, and the AK/SK of the software in it."""

    server_url: str
    sandbox_url: str
    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Stage({self.server_url!r}, {self.sandbox_url!r})"


class _Credential(msgspec.Struct, frozen=True, kw_only=True):
    product: str
    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"_Credential({self.access_key!r})"


def documents_dir(settings: Settings) -> Path:
    """Where the demonstration keeps its credential, and leaves what others can verify."""
    return settings.data / "demo"


def credential_file(settings: Settings) -> Path:
    """Where the demonstration keeps the AK/SK of its software."""
    return documents_dir(settings) / "credential.json"


async def set_up(settings: Settings, admin: AdminClient, server_url: str, sandbox_url: str) -> Stage:
    """Introduce server and sandbox to each other and create what is missing."""
    sandbox = State.open(sandbox_file(settings.data))
    access = {
        "base_url": sandbox_url,
        "callback_key": sandbox.callback_key,
        "api_access_key": sandbox.api_access_key,
        "api_secret": sandbox.api_secret,
    }
    connection = await _ensure(admin, "/connections", {"name": _CONNECTION, "site": "cn", **access})
    if (connection["base_url"], connection["api_access_key"]) != (sandbox_url, sandbox.api_access_key):
        connection = await admin.patch(f"/connections/{connection['id']}", connection["version"], access)
    policy = await _ensure(admin, "/policies", _POLICY)
    product = {
        "connection": connection["id"],
        "policy": policy["id"],
        "name": "demo software",
        "marketplace_product_id": MARKETPLACE_PRODUCT,
        "delivery_kind": "LICENSE_1_0",
    }
    credential = await _credential(settings, admin, await _ensure(admin, "/products", product))
    seller = {"callback_url": f"{server_url}/callbacks/{connection['id']}"}
    async with httpx2.AsyncClient(trust_env=False, timeout=_ANSWER_SECONDS) as http:
        answer = await http.put(f"{sandbox_url}/sandbox/seller", json=seller)
    if answer.is_error:
        raise Failure(f"the sandbox refused the callback URL: {answer.text}")
    return Stage(
        server_url=server_url,
        sandbox_url=sandbox_url,
        access_key=credential.access_key,
        secret_key=credential.secret_key,
    )


async def first_token(admin: AdminClient) -> str | None:
    """The owner's token, made on the first run; None later, for it is shown once."""
    if any(token["name"] == _TOKEN for token in await admin.all("/tokens")):
        return None
    token: str = (await admin.post("/tokens", {"name": _TOKEN, "role": "owner"}))["token"]
    return token


async def _ensure(admin: AdminClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    known = [record for record in await admin.all(path) if record["name"] == body["name"]]
    return known[0] if known else await admin.post(path, body)


async def _credential(settings: Settings, admin: AdminClient, product: dict[str, Any]) -> _Credential:
    private_directory(documents_dir(settings))
    path = credential_file(settings)
    if path.exists():
        kept = msgspec.json.decode(read_private(path), type=_Credential)
        if kept.product == product["id"]:
            return kept
    made = await admin.post(
        "/credentials",
        {"connection": product["connection"], "product": product["id"], "scope": "device", "name": "demo software"},
    )
    credential = _Credential(product=product["id"], access_key=made["access_key"], secret_key=made["secret_key"])
    write_private(path, msgspec.json.encode(credential))
    return credential
