"""The receivers in the documentation take real messages, and the server as a whole sends them."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from licensesvc.app import create_app
from licensesvc.domain.instants import SECOND
from licensesvc.services.webhooks.manage_webhooks import replay_delivery
from licensesvc.settings import Settings
from tests.support_process import CHECKOUT
from tests.support_webhooks import (
    Receiver,
    deliveries,
    dispatching,
    happen,
    receiving,
    settled,
    subscribe,
    until,
)


@pytest.fixture(params=["sqlite"])
def engine(request):
    return request.param


@pytest.fixture
def clock(clock):
    clock.now = int(time.time() * SECOND)
    return clock


@contextmanager
def example(interpreter, name, secret, port=0):
    """A receiver from the documentation; gives its process once it listens, and its port."""
    program = CHECKOUT / "docs/examples" / name
    with subprocess.Popen(
        [interpreter, str(program), str(port)],
        env={**os.environ, "WEBHOOK_SECRET": secret},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process, int(process.stdout.readline().rpartition(" ")[2])
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["receive_webhook.py", "receive_webhook.mjs"])
async def test_an_example_takes_real_messages_once_and_refuses_others(rt, clock, name):
    interpreter = sys.executable if name.endswith(".py") else shutil.which("node")
    if interpreter is None:
        pytest.skip("not installed: node")
    wrong, right = Receiver(), Receiver(port=1_024)
    await subscribe(rt, right)
    with (
        example(interpreter, name, right.secret) as (process, port),
        example(interpreter, name, right.secret) as (_, other),
    ):
        right.port, wrong.port = port, other
        await rt.db.write(
            lambda tx: tx.run("UPDATE webhook_endpoints SET url = $1 WHERE id = $2", right.url, right.endpoint.id)
        )
        await subscribe(rt, wrong, events=("license.*",))  # its receiver knows another secret
        async with dispatching(rt) as working:
            await happen(rt, ["lic_1"], [1, 2])
            await settled(rt, working, right)

            async def refused() -> bool:
                return [a.status for d in await deliveries(rt, wrong.endpoint) for a in d.log] == [401]

            await until(working, refused)
        again = (await deliveries(rt, right.endpoint))[-1].public_id
        await rt.db.write(lambda tx: replay_delivery(tx, rt, again, by="test"))
        async with dispatching(rt) as working:
            await settled(rt, working, right)
        process.terminate()
        told = process.stdout.read().splitlines()
    licenses = [line for line in told if line.startswith("license.quantity_changed")]
    assert [json.loads(line.partition(" ")[2])["to"] for line in licenses] == [1, 2]  # the repeat was known


async def test_a_server_sends_what_happens_by_itself(rt, tmp_path):
    """The whole application, waked by nobody: the chains are looked at once a second."""
    counted = []
    settings = Settings(data_dir=str(tmp_path / "data"), outbound_networks="127.0.0.0/8")
    async with receiving() as receiver:
        await subscribe(rt, receiver)
        async with create_app(rt, settings, on_webhook=counted.append).lifespan():
            await happen(rt, ["lic_1"], [1])

            class Nobody:
                def wake(self):
                    """Nothing."""

            await until(Nobody(), lambda: counted)
    assert counted == ["delivered"]
    assert [call.number for call in receiver.calls] == [1]
