"""The story of one order, from the marketplace's call to completion: every step is done for real and verified.

In: what happens and what must be true afterwards. Out: the processes it happens in (`demonstration`), what was set up (`stage`).
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import httpx2
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from rich.console import Console
from rich.text import Text

from licensesvc.app import now, open_reader, open_runtime
from licensesvc.cli.admin_client import AdminClient
from licensesvc.cli.errors import Failure
from licensesvc.cli.stage import MARKETPLACE_PRODUCT, Stage
from licensesvc.domain.licensecode import is_own
from licensesvc.domain.supervision import Node
from licensesvc.marketplace.huawei.result_codes import OpenApiCode
from licensesvc.sandbox.product import Product
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.settings import Settings
from licensesvc.signing import envelope
from licensesvc.signing.keyset import public_key_from_jwk

SEATS: Final = 3
FINGERPRINT: Final = "00:16:3E:5E:6C:00|demo-disk|demo-board"
PATIENCE_S: Final = 15.0
"""How long a step may wait for what happens in the background."""

_BEAT_S: Final = 0.05
_T = TypeVar("_T")


class StepFailed(Failure):
    """A step of the story did not come out as it must."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the story came to; `license`, `receipt` and `jwks` are what others need to verify it."""

    order_id: str
    license_code: str
    receipt_kid: str
    supervision: str
    license: str
    receipt: str
    jwks: bytes

    def __repr__(self) -> str:
        return f"Told({self.order_id!r})"


class Teller:
    """Tells each step once it is verified, with the time since the beginning; what fails is told on stderr."""

    def __init__(self, began: float) -> None:
        """`began` is a reading of `time.monotonic`, seconds."""
        self._began = began
        self._console = Console(soft_wrap=True, highlight=False)
        self._errors = Console(stderr=True, soft_wrap=True, highlight=False)

    def step(self, title: str, detail: str) -> None:
        """One step that came out as it must."""
        line = Text.assemble((f"{self.seconds():6.2f} s  ", "dim"), ("✓ ", "green"), (title, "bold"), f"  {detail}")
        self._console.print(line)

    def failed(self, why: str) -> None:
        """What ended the story."""
        self._errors.print(Text(f"{self.seconds():6.2f} s  ✗ {why}", style="red"))

    def quote(self, whose: str, lines: Sequence[str]) -> None:
        """The end of somebody's log."""
        for line in lines:
            self._errors.print(Text(f"          {whose}: {line}", style="dim"))

    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began


async def tell(teller: Teller, settings: Settings, stage: Stage, admin: AdminClient) -> Told:
    """Live through one order; raises StepFailed with what was expected and what came."""
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http,
        Product(stage.server_url, stage.access_key, stage.secret_key) as product,
    ):
        placed = await _order(teller, http, stage, admin)
        code = await _code(teller, admin, placed)
        jwks = (await http.get(f"{stage.server_url}/.well-known/jwks.json")).content
        keys = {jwk["kid"]: public_key_from_jwk(jwk) for jwk in msgspec.json.decode(jwks)["keys"]}
        signed = await _document(teller, product, code, keys, settings.issuer, placed["order_id"])
        await _activation(teller, product, code)
        receipt, receipt_kid = await _seat(teller, product, code, keys, settings.issuer)
    node = await _acceptance(teller, admin, placed["order_id"])
    await _audit(teller, settings)
    return Told(
        order_id=placed["order_id"],
        license_code=code,
        receipt_kid=receipt_kid,
        supervision=node,
        license=signed,
        receipt=receipt,
        jwks=jwks,
    )


async def _order(teller: Teller, http: httpx2.AsyncClient, stage: Stage, admin: AdminClient) -> dict[str, Any]:
    order = {"product_id": MARKETPLACE_PRODUCT, "amount": SEATS, "period_type": "year", "period_number": 1}
    answer = await http.post(f"{stage.sandbox_url}/sandbox/orders", json={**order, "dialect": "LICENSE_1_0"})
    expect("placing the order at the sandbox", answer.status_code, 201)
    placed: dict[str, Any] = answer.json()
    for delivery in placed["deliveries"]:
        expect(f"the marketplace's verdict on the answer to {delivery['activity']}", delivery["verdict"], "success")
    calls = ", ".join(f"{delivery['activity']} in {delivery['ms']} ms" for delivery in placed["deliveries"])
    order_id = placed["order_id"]

    async def asked() -> bool:
        messages = await admin.all("/messages", order_id=order_id)
        return any(message["activity"] == "order/query" and message["outcome"] == "ok" for message in messages)

    await _until("our order/query being answered", asked, wanted=True)
    known = await admin.all("/orders", order_id=order_id)
    expect("orders with this id", len(known), 1)
    line = (await admin.get(f"/orders/{known[0]['id']}"))["lines"][0]
    expect("the amount in the order's line", line["amount"], SEATS)
    teller.step("order received", f"{order_id}: {calls}, then our signed order/query")
    return placed


async def _code(teller: Teller, admin: AdminClient, placed: Mapping[str, Any]) -> str:
    licenses = await admin.all("/licenses", order_id=placed["order_id"])
    expect("licenses of the order", len(licenses), 1)
    code: str = (await admin.get(f"/licenses/{licenses[0]['id']}/code"))["code"]
    expect("the license that the marketplace was given", placed["license"], code)
    expect("the form of the code being ours", is_own(code), wanted=True)
    teller.step("license code issued", f"{code}, {licenses[0]['seats']} seats")
    return code


async def _document(
    teller: Teller, product: Product, code: str, keys: Mapping[str, Ed25519PublicKey], issuer: str, order_id: str
) -> str:
    answer = await product.document(code)
    expect("the document's key being published", answer.get("kid") in keys, wanted=True)
    document: str = answer["document"]
    claims = _verified(document, envelope.LICENSE_TYP, keys, issuer)
    expect("the license's order", claims["order"], order_id)
    expect("the license's seats", claims["seats"], SEATS)
    teller.step("signed license verified offline", f"{len(document)} characters, EdDSA, kid {answer['kid']}")
    return document


async def _activation(teller: Teller, product: Product, code: str) -> None:
    answer = await product.activate(code)
    expect("the answer to activate", answer.get("error_code"), OpenApiCode.SUCCESS)
    info = msgspec.json.decode(answer["data"]["license_code_info"])
    expect("the status after activate", info["status"], "ALIVE")
    teller.step("activated over the v1 URI", f"signed with AK/SK; service until {info['expire_time']} UTC")
    again = await product.activate(code)
    expect("the answer to a second activate", again.get("error_code"), OpenApiCode.ILLEGAL_STATE)
    teller.step("second activation refused", OpenApiCode.ILLEGAL_STATE)
    beat = await product.heartbeat(code)
    expect("the answer to heartbeat", beat.get("error_code"), OpenApiCode.SUCCESS)
    expect("the status in the heartbeat", beat["data"]["status"], "ALIVE")
    teller.step("heartbeat", beat["data"]["status"])


async def _seat(
    teller: Teller, product: Product, code: str, keys: Mapping[str, Ed25519PublicKey], issuer: str
) -> tuple[str, str]:
    seat = await product.take_seat(code, FINGERPRINT)
    expect("seats taken", seat.get("seats_taken"), 1)
    again = await product.take_seat(code, FINGERPRINT)
    expect("the seat of the same device again", again.get("activation_id"), seat["activation_id"])
    teller.step("seat taken", f"{seat['seats_taken']} of {seat['seats']}; the same device again gets the same seat")
    nonce = secrets.token_hex(16)
    answer = await product.validate(code, nonce, FINGERPRINT)
    expect("validation", answer.get("code"), "VALID")
    receipt: str = answer["receipt"]
    claims = _verified(receipt, envelope.RECEIPT_TYP, keys, issuer)
    expect("the receipt's nonce", claims["nonce"], nonce)
    device = hashlib.sha256(f"{nonce}\n{FINGERPRINT}".encode()).hexdigest()
    expect("the receipt's device", claims["fingerprint_sha256"], device)
    expect("the receipt's license", claims["sub"], answer["license_id"])
    teller.step("validated", "receipt verified offline, it repeats our nonce and names our device")
    return receipt, answer["kid"]


async def _acceptance(teller: Teller, admin: AdminClient, order_id: str) -> str:
    known = await admin.all("/orders", order_id=order_id)
    case_id = (await admin.get(f"/orders/{known[0]['id']}"))["lines"][0]["case"]
    path = f"/supervision-cases/{case_id}"
    expect("the node after activation", (await admin.get(path))["node"], Node.PROVING)
    proof = f"Order {order_id} was delivered and activated.\n".encode()
    case = await admin.upload(f"{path}/proofs", "text/plain", proof, kind="acceptance", filename="acceptance.txt")
    expect("the node after the proof", case["node"], Node.BUYER_CONFIRMING)
    teller.step("proof uploaded", f"{case['proofs'][0]['filename']}, sha256 {case['proofs'][0]['sha256'][:16]}…")
    case = await admin.post(f"{path}/events", {"event": "accepted", "actor": "buyer"})
    expect("the node after the buyer's acceptance", case["node"], Node.ACCEPTED)
    teller.step("accepted", "by the buyer")
    case = await admin.post(f"{path}/events", {"event": "completed", "actor": "marketplace"})
    expect("the node at the end", case["node"], Node.COMPLETED)
    teller.step("completed", f"settled with {case['settlement_month']}")
    node: str = case["node"]
    return node


async def _audit(teller: Teller, settings: Settings) -> None:
    async with open_runtime(settings, open_reader) as rt:
        report = await audit_database(rt)
    expect("findings of the audit", list(report.findings), [])
    teller.step("audit clean", ", ".join(f"{count} {kind}" for kind, count in report.counts.items()))


def expect(what: str, got: object, wanted: object) -> None:
    """Raise StepFailed unless `got` is `wanted`."""
    if got != wanted:
        raise StepFailed(f"{what}: expected {wanted}, got {got}")


def _verified(token: str, typ: str, keys: Mapping[str, Ed25519PublicKey], issuer: str) -> dict[str, Any]:
    try:
        return envelope.verify(token, typ=typ, keys=keys, now=now(), issuer=issuer)
    except envelope.InvalidToken as error:
        raise StepFailed(f"{typ}: expected a valid signature and claims, got {error.reason}") from None


async def _until(what: str, look: Callable[[], Awaitable[_T]], *, wanted: _T) -> None:
    """Look again and again until it is as wanted."""
    deadline = time.monotonic() + PATIENCE_S
    while (seen := await look()) != wanted:
        if time.monotonic() > deadline:
            raise StepFailed(f"{what}: expected {wanted} within {PATIENCE_S:g} s, got {seen}")
        await asyncio.sleep(_BEAT_S)
