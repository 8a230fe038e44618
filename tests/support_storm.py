"""A storm of callbacks against a real server: repeats, concurrent repeats and reordering of the same orders, every delivery signed anew.

In: the shop, the deliveries, what their answers and the database say afterwards. Out: processes and sockets (`support_process`, `support_load`).
"""

import json
import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from licensesvc.app import create_data, migrate_database, now, open_runtime
from licensesvc.domain.connection import Site
from licensesvc.domain.instants import SECOND, PeriodUnit, to_datetime
from licensesvc.domain.policy import Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.signature_v1 import auth_token
from licensesvc.services.catalog.manage_catalog import (
    CreatePolicy,
    CreateProduct,
    PeriodFields,
    create_policy,
    create_product,
)
from licensesvc.services.catalog.manage_connections import CreateConnection, create_connection
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage.port import Tx
from tests.support_load import send
from tests.support_process import running

KEY = "0123456789abcdef-demo-key"
SOLD = "OFFI100"
CONNECTIONS = 16
"""Callers at once. They wait in line, so twice as many wait twice as long; the marketplace hangs up after 5 s."""
WAVE = 2_000
"""Deliveries signed at once: a token is not to grow old in the queue."""
IN_PROGRESS = "000004"


@dataclass
class Outcome:
    """Bodies by order as they came (those that say "in progress" are counted apart), and all latencies in seconds."""

    bodies: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    deliveries: int = 0
    in_progress: int = 0
    unanswered: int = 0
    latencies: list[float] = field(default_factory=list)
    licenses: int = 0
    duplicates: int = 0

    @property
    def different_answers(self) -> int:
        """Orders whose repeats were not answered alike."""
        return sum(len(bodies) > 1 for bodies in self.bodies.values())

    def latency_ms(self, percent: float) -> float:
        """A percentile of all deliveries."""
        every = sorted(self.latencies)
        return every[min(int(len(every) * percent / 100), len(every) - 1)] * 1_000

    def summary(self) -> dict[str, float]:
        """The figures of a run."""
        return {
            "deliveries": self.deliveries,
            "orders": len(self.bodies),
            "licenses": self.licenses,
            "duplicate_licenses": self.duplicates,
            "orders_answered_differently": self.different_answers,
            "in_progress": self.in_progress,
            "unanswered": self.unanswered,
            "p50_ms": round(self.latency_ms(50), 1),
            "p99_ms": round(self.latency_ms(99), 1),
            "p99_9_ms": round(self.latency_ms(99.9), 1),
            "max_ms": round(max(self.latencies) * 1_000, 1),
        }


async def open_shop(data_dir: Path) -> str:
    """Make the data directory of a shop that sells License 1.0; return the public id of its connection."""
    settings = Settings(data_dir=str(data_dir))
    create_data(settings)
    await migrate_database(settings)
    async with open_runtime(settings) as rt:
        return await rt.db.write(lambda tx: _make_shop(tx, rt))


async def _make_shop(tx: Tx, rt: Runtime) -> str:
    account = CreateConnection(name="cn", site=Site.CN, callback_key=KEY)
    connection = (await create_connection(tx, rt, account, by="test")).connection.public_id
    year = PeriodFields(unit=PeriodUnit.YEAR, count=1)
    policy = await create_policy(tx, rt, CreatePolicy(name="one year", term=Term.PERIOD, period=year), by="test")
    sold = CreateProduct(
        connection=connection,
        policy=policy.public_id,
        name="Widget",
        marketplace_product_id=SOLD,
        delivery_kind=DeliveryKind.LICENSE_1_0,
    )
    await create_product(tx, rt, sold, by="test")
    return connection


def delivery(connection: str, order: str, dice: random.Random) -> bytes:
    """One getLicense call: every delivery of an order has another businessId and another time."""
    at = now()
    parameters = {
        "activity": "getLicense",
        "amount": "3",
        "businessId": f"{dice.getrandbits(128):032x}",
        "customerId": "c1",
        "orderId": order,
        "periodNumber": "1",
        "periodType": "year",
        "productId": SOLD,
        "timeStamp": to_datetime(at).strftime("%Y%m%d%H%M%S") + f"{at % SECOND:03}",
    }
    query = urlencode({**parameters, "authToken": auth_token(parameters.items(), KEY)})
    return f"GET /callbacks/{connection}?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def schedule(deliveries: int, dice: random.Random) -> list[str]:
    """The orders of all deliveries: each order about ten times, some of them at once, some much later."""
    orders = [f"CS{number}" for number in range(max(1, deliveries // 10))]
    queue = [(place + dice.choice((0, 0, 1, 5, 50, 500, 5_000)), order) for place, order in enumerate(dice.choices(orders, k=deliveries))]  # fmt: skip
    return [order for _, order in sorted(queue, key=lambda item: item[0])]


async def storm(
    data_dir: Path,
    connection: str,
    server: Sequence[str],
    deliveries: int,
    *,
    seed: int = 1,
    connections: int = CONNECTIONS,
    progress: Callable[[int], None] = lambda _done: None,
) -> Outcome:
    """Send so many deliveries over `connections` sockets to a server process on this data, and look what came of them."""
    dice = random.Random(seed)  # noqa: S311 - the same storm in every run
    outcome = Outcome()
    waiting = schedule(deliveries, dice)
    with running(*server, log=data_dir / "server.log") as process:
        for start in range(0, len(waiting), WAVE):
            orders = waiting[start : start + WAVE]
            load = await send(
                process.port, [delivery(connection, one, dice) for one in orders], connections=connections
            )
            for order, answer in zip(orders, load.answers, strict=True):
                if answer is None:
                    outcome.unanswered += 1
                    continue
                outcome.latencies.append(answer.seconds)
                if json.loads(answer.body)["resultCode"] == IN_PROGRESS:
                    outcome.in_progress += 1
                else:
                    outcome.bodies[order].add(answer.body)
            outcome.deliveries += len(orders)
            progress(outcome.deliveries)
    with closing(sqlite3.connect(f"{(data_dir / 'licensesvc.db').as_uri()}?mode=ro", uri=True)) as database:
        by_order = dict(database.execute("SELECT order_id, count(*) FROM licenses GROUP BY order_id").fetchall())
    outcome.licenses = sum(by_order.values())
    outcome.duplicates = outcome.licenses - len(outcome.bodies)
    return outcome
