"""Telling systemd (`Type=notify`) that we serve, that we stop, and that we live. Without `NOTIFY_SOCKET` nothing happens.

The protocol is a datagram to a socket that the environment names (sd_notify(3)).
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Final

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
ALIVE: Final = "WATCHDOG=1"


def notify(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Send one state; a manager that is gone is no reason to fail."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # Linux: an abstract name
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.sendto(state.encode(), address)
    except OSError:
        return


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """How often systemd wants a sign of life, halved as it advises; None when it does not ask this process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    wanted_of = environment.get("WATCHDOG_PID") or str(os.getpid())
    if (
        not microseconds.isascii()
        or not microseconds.isdigit()
        or int(microseconds) == 0
        or wanted_of != str(os.getpid())
    ):
        return None
    return int(microseconds) / 2_000_000


async def keep_alive() -> None:
    """Give signs of life from the event loop, so that a loop that hangs gives none; returns at once when nobody asks."""
    every = watchdog_seconds()
    while every is not None:
        notify(ALIVE)
        await asyncio.sleep(every)
