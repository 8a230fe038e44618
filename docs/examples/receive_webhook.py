"""Receives webhooks with nothing but the standard library: WEBHOOK_SECRET=whsec_… python3 receive_webhook.py 8081."""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer

SECRET = base64.b64decode(os.environ["WEBHOOK_SECRET"].removeprefix("whsec_"))
TOLERANCE_S = 300
MAX_BODY = 64 * 1024
seen = set()  # in earnest: a table with webhook-id as its key, written together with what you do


def is_genuine(headers: Message, body: bytes) -> bool:
    """Check the raw body before anything reads it."""
    name, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdecimal() or abs(time.time() - int(stamp)) > TOLERANCE_S:
        return False
    content = f"{name}.{stamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(SECRET, content, hashlib.sha256)).decode()
    # Several signatures while a secret is being replaced: one that fits is enough.
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(f"v1,{expected}".encode(), each.encode()) for each in given)


class Receiver(BaseHTTPRequestHandler):
    """Answers fast, and works later."""

    def do_POST(self) -> None:
        """Take one message."""
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), MAX_BODY))
        if not is_genuine(self.headers, body):
            self.answer(401)
            return
        if self.headers["webhook-id"] not in seen:  # a repeat is answered like the first one
            seen.add(self.headers["webhook-id"])
            message = json.loads(body)
            print(message["type"], json.dumps(message["data"]), flush=True)
        self.answer(204)

    def answer(self, status: int) -> None:
        """Say how it went."""
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing about single requests."""


server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
