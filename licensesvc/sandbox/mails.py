"""What the marketplace mails the seller after a failure (spec §§2.0, 2.6): kept for whoever looks, and sent where a mail server was named.

In: the texts, the list, sending. Out: what has failed (`marketplace`, `probes`).
"""

import asyncio
from collections import deque
from email.message import EmailMessage
from types import TracebackType
from typing import Final, Self

import aiosmtplib
import msgspec
import structlog

from licensesvc.domain.instants import Instant
from licensesvc.sandbox.messages import SCHEDULES, Errand
from licensesvc.sandbox.orders import Activity

MAX_MAILS: Final = 1_000
"""Kept, and waiting to be sent; beyond, the oldest is forgotten."""
SMTP_SECONDS: Final = 10.0
FROM: Final = "sandbox-marketplace@localhost"

_log = structlog.get_logger(__name__)


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """One mail; `at` in epoch ms. `order_id`, `activity` and `attempt` say which call has failed; None where debug cases have."""

    at: Instant
    subject: str
    text: str
    order_id: str | None = None
    activity: Activity | None = None
    attempt: int | None = None


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    """Where mails go: a server that takes them without ado, and one address."""

    host: str
    port: int
    to: str


class Mailbox:
    """The newest mails; an async context manager that sends them in the background, when it has a server."""

    def __init__(self, server: MailServer | None = None) -> None:
        self.kept: deque[Mail] = deque(maxlen=MAX_MAILS)
        self._server = server
        self._waiting: deque[Mail] = deque(maxlen=MAX_MAILS)
        self._come = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._server is not None:
            self._sending = asyncio.create_task(self._send_all(self._server))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    def put(self, mail: Mail) -> None:
        """Keep a mail, and send it."""
        self.kept.append(mail)
        if self._server is not None:
            self._waiting.append(mail)
            self._come.set()

    async def _send_all(self, server: MailServer) -> None:
        while True:
            await self._come.wait()
            self._come.clear()
            while self._waiting:
                try:
                    await aiosmtplib.send(
                        _written(self._waiting.popleft(), server.to),
                        hostname=server.host,
                        port=server.port,
                        timeout=SMTP_SECONDS,
                        start_tls=None,
                    )
                except (aiosmtplib.SMTPException, OSError, ValueError) as error:  # an address may be none
                    _log.warning("sandbox_mail_not_sent", error=str(error))


def about_call(errand: Errand, *, at: Instant, attempt: int, verdict: str) -> Mail:
    """The mail about one failed attempt."""
    left = SCHEDULES[errand.activity].times + 1 - attempt
    restart = "请在 卖家中心 > 生产接口消息 重新执行" if left == 0 else f"还将重试 {left} 次"
    then = "restart it under 卖家中心 > 生产接口消息" if left == 0 else f"{left} more will be made"
    return Mail(
        at=at,
        subject=f"【云商店沙箱】生产接口消息失败 {errand.activity} / Interface message failed",
        text=(
            f"订单 {errand.about} 的 {errand.activity} 第 {attempt} 次调用失败：{verdict}。{restart}。\n"
            f"Attempt {attempt} of {errand.activity} for order {errand.about} failed: {verdict}; {then}.\n"
        ),
        order_id=errand.about,
        activity=errand.activity,
        attempt=attempt,
    )


def about_probes(product_id: str, *, at: Instant, failed: list[str], days: int, frozen: bool) -> Mail:
    """The mail about a replay of debug cases in which some have failed."""
    end = ("，商品已冻结交易", "; trading is frozen") if frozen else ("", "")
    return Mail(
        at=at,
        subject=f"【云商店沙箱】调试用例拨测失败 {product_id} / Debug cases failed",
        text=(
            f"商品 {product_id} 的 {len(failed)} 个调试用例失败，已连续 {days} 天{end[0]}：{'、'.join(failed)}。\n"
            f"{len(failed)} debug cases of product {product_id} failed, for {days} days in a row{end[1]}: {', '.join(failed)}.\n"
        ),
    )


def _written(mail: Mail, to: str) -> EmailMessage:
    message = EmailMessage()
    # A productId may be any text, a header may not.
    message["From"], message["To"], message["Subject"] = FROM, to, " ".join(mail.subject.split())
    message.set_content(mail.text)
    return message
