"""Invented secrets, the search for them in texts, and the server and the mail server that are given them."""

import asyncio
import base64
import email
import email.policy
import json
import queue
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import httpx2
import msgspec

from licensesvc.domain import licensecode
from licensesvc.marketplace.huawei import aksk
from licensesvc.signing.tokens import new_token
from tests.support_mail import serving

PUBLIC_URL = "https://licenses.example"


def invented() -> dict[str, str]:
    """Texts that look like secrets and belong to nobody here."""
    own = [licensecode.generate(prefix, secrets.token_bytes) for prefix in ("LS", "LS", "ACME", "X9")]
    jws = ".".join(base64.urlsafe_b64encode(secrets.token_bytes(24)).decode().rstrip("=") for _ in range(2))
    return {
        **{f"own code {number}": code for number, code in enumerate(own)},
        "own code, small": own[0].lower(),
        "own code, no dashes": own[1].replace("-", ""),
        **{f"marketplace code {number}": f"PL{secrets.token_hex(13)}" for number in range(3)},
        **{f"admin token {number}": new_token("lsa", secrets.token_bytes) for number in range(2)},
        "buyer's link": new_token("lsb", secrets.token_bytes),
        "session token": new_token("lss", secrets.token_bytes),
        "AWS-like secret key": secrets.token_urlsafe(32),
        "access key": "AK" + base64.b32encode(secrets.token_bytes(12)).decode()[:18],
        "signed document": f"eyJhbGciOiJFZERTQSJ9.{jws}",
        "fingerprint, MAC": f"00:16:3E:{secrets.token_hex(3)}|WD-{secrets.token_hex(4)}|board",
        "fingerprint, hex": secrets.token_hex(32),
        "nonce": secrets.token_hex(16),
        "authToken": base64.b64encode(secrets.token_bytes(32)).decode(),
        "Body-Sign": base64.b64encode(secrets.token_bytes(32)).decode(),
        "signature": secrets.token_hex(32),
        "URL signature": base64.b64encode(secrets.token_bytes(32)).decode(),
        "mail address": f"buyer.{secrets.token_hex(4)}@example.cn",
        "mail address, tagged": f"li+{secrets.token_hex(4)}@mail.example.com",
        "mobile number": f"138{secrets.randbelow(10**8):08}",
        "mobile number, +86": f"+86 139{secrets.randbelow(10**8):08}",
        "DSN": f"postgresql://seller:{secrets.token_hex(8)}@db.internal/licenses",
        "age key": f"AGE-SECRET-KEY-1{secrets.token_hex(29).upper()}",
        "webhook secret": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "password": secrets.token_urlsafe(12),
    }


NAMES = list(invented())


def found(text: str, canaries: dict[str, str]) -> list[str]:
    """Names of the canaries that stand in a text, as they are or in a form that somebody could have given them."""
    return [
        name
        for name, canary in canaries.items()
        if any(
            form in text
            for form in (
                canary,
                quote(canary, safe=""),
                json.dumps(canary)[1:-1],
                base64.b64encode(canary.encode()).decode().rstrip("=")[:-1],
                canary.encode().hex(),
            )
        )
    ]


class Post:
    """A mail server that refuses the first mail for good, quoting what it was given, and then takes every one."""

    def __init__(self) -> None:
        self.refused = False
        self.links: list[str] = []

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802 - the name that the server calls
        text = email.message_from_bytes(envelope.content, policy=email.policy.default).get_content()
        (link,) = re.findall(rf"{PUBLIC_URL}/buyer/\S+", text)
        if not self.refused:
            self.refused = True
            return f"550 {envelope.rcpt_tos[0]} does not want {link}"
        self.links.append(link)
        return "250 OK"


@contextmanager
def running_post() -> Iterator[tuple[Post, int]]:
    """A mail server in a thread of its own, and its port."""
    handler, known = Post(), queue.Queue()

    async def serve() -> None:
        over = asyncio.Event()
        async with serving(handler) as port:
            known.put((asyncio.get_running_loop(), over, port))
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, over, port = known.get(timeout=20)
    try:
        yield handler, port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(20)


class House:
    """A running server whose every error answer is kept."""

    def __init__(self, url: str, owner: str) -> None:
        self.url = url
        self.refused: list[str] = []
        self.canaries: dict[str, str] = {}
        self.http = httpx2.Client(base_url=url, trust_env=False, timeout=20)
        self.bearer = {"Authorization": f"Bearer {owner}"}

    def send(self, method: str, path: str, **request) -> httpx2.Response:
        answer = self.http.request(method, path, **request)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            self.refused.append(answer.text + str(dict(answer.headers)))
        return answer

    def admin(self, method: str, path: str, body=None, **request) -> dict:
        answer = self.send(method, f"/admin/v1{path}", json=body, headers=self.bearer, **request)
        assert answer.is_success, answer.text
        return answer.json()

    def software(self, path: str, access_key: str, secret: str, fields: dict) -> httpx2.Response:
        body = msgspec.json.encode(fields)
        headers = {
            "Host": self.url.removeprefix("http://"),
            "X-Sdk-Date": aksk.sdk_date(time.time_ns() // 1_000_000),
            "Content-Type": "application/json",
        }
        signature = aksk.sign(
            method="POST",
            path=path,
            query="",
            headers=list(headers.items()),
            body=body,
            access_key=access_key,
            secret_key=secret,
        )
        return self.send("POST", path, content=body, headers={**headers, "Authorization": signature})
