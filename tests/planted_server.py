"""A server with a planted bug, the control of test_crash and test_storm: it answers hot commands before their commit, or knows no order again.

`python -m tests.planted_server DATA_DIR early` commits a moment after the answer, `… never` not at all; `… forgetful` takes
businessId, which every delivery has anew, for the id of the order.
"""

import asyncio
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import uvloop

from licensesvc.app import create_app, open_database, open_runtime
from licensesvc.cli.serving import listen_tcp, run_server, stop_with_parent, url_of
from licensesvc.marketplace.huawei import callbacks
from licensesvc.settings import Settings
from licensesvc.storage.port import Database

HELD_BACK_S = 0.01
"""How long a commit comes after its answer, when it comes."""


class ForgottenError(Exception):
    """Rolls back what was answered."""


class EarlyAnswers:
    """A `Database` whose hot commands are answered once their verb has decided them; everything else passes through."""

    def __init__(self, db: Database, *, commits: bool) -> None:
        self._db = db
        self._commits = commits
        self._writing: set[asyncio.Task[None]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def submit(self, verb, command):
        loop = asyncio.get_running_loop()
        told = loop.create_future()

        async def answer_first(tx):
            [result] = await verb(tx, [command])
            tell = told.set_exception if isinstance(result, Exception) else told.set_result
            loop.call_soon_threadsafe(tell, result)
            if not self._commits:
                raise ForgottenError
            await tx.aside(time.sleep, HELD_BACK_S)

        task = asyncio.create_task(self._write(answer_first))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await told

    async def _write(self, answer_first) -> None:
        with suppress(ForgottenError):
            await self._db.write(answer_first)


async def open_planted(settings: Settings, *, commits: bool) -> Any:
    return EarlyAnswers(await open_database(settings), commits=commits)


async def serve(settings: Settings, opening) -> None:
    with listen_tcp(settings.host, 0) as tcp:
        async with open_runtime(settings, opening) as rt:
            await run_server(create_app(rt, settings), [tcp], f"planted server ready on {url_of(tcp)}")


def forget_orders() -> None:
    """Switch the key of idempotency off: each getLicense is about an order that nobody has heard of."""
    read = callbacks.V1["getLicense"]

    def read_anew(parameters):
        call = read(parameters)
        return msgspec.structs.replace(call, order_id=call.business_id)

    callbacks.V1["getLicense"] = read_anew


if __name__ == "__main__":
    data_dir, commit = sys.argv[1:]
    stop_with_parent()
    if commit == "forgetful":
        forget_orders()
        uvloop.run(serve(Settings(data_dir=data_dir), open_database))
    uvloop.run(serve(Settings(data_dir=data_dir), partial(open_planted, commits=commit == "early")))
