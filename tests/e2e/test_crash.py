"""Promises 1 and 3 of the server process: what it acknowledged survives `kill -9`, and nothing is sold twice.

Real processes, real sockets. Every harness must catch a server with a planted bug (`tests/planted_server.py`), or it proves nothing.
"""

import asyncio
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.support_load import ACTIVATE, ILLEGAL_STATE, SUCCESS, Answer, post, send
from tests.support_process import CHECKOUT, Server, running, serving
from tests.support_stock import Stock, make_stock

SEATS = "/v1/activations"
KILLS = 20
CONNECTIONS = 32
FEWEST_ANSWERS, MOST_ANSWERS = 10, 100
"""A server is killed after so many acknowledged activations of its life."""
WAVE = 400
"""Activations sent into one life of the server; far more than it lives to answer."""
LONGEST_AFTER_S = 0.004
"""… and up to this much later, so that every line between two answers gets its kill."""

RECORDED = """
SELECT l.public_id, count(*) FROM licenses l
  JOIN license_states s ON s.license_id = l.id AND s.state = 'ACTIVE'
  JOIN supervision_cases c ON c.line_ref = l.line_ref AND c.node = 'PROVING'
  JOIN audit_events a ON a.subject = l.public_id AND a.kind = 'license.activated'
  GROUP BY l.id
"""
TAKEN = """
SELECT l.public_id, count(*) FROM licenses l
  JOIN activations a ON a.license_id = l.id AND a.released_at IS NULL
  GROUP BY l.id
"""


def planted(data_dir: Path, commit: str) -> Sequence[str]:
    return ("tests.planted_server", str(data_dir), commit)


def query(stock: Stock, sql: str) -> list[tuple[str, int]]:
    """Read beside the server, on a connection that cannot write."""
    with closing(sqlite3.connect(f"{(stock.data_dir / 'licensesvc.db').as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def recorded(stock: Stock) -> dict[str, int]:
    """Licenses whose activation is recorded whole, with the number of its audit events."""
    return dict(query(stock, RECORDED))


def seats_taken(stock: Stock) -> dict[str, int]:
    """Live activations by license."""
    return dict(query(stock, TAKEN))


def audit_is_clean(stock: Stock) -> None:
    command = [sys.executable, "-m", "licensesvc", "audit", "--data-dir", stock.data_dir]
    audit = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert audit.returncode == 0, audit.stdout + audit.stderr


def activations(stock: Stock, codes: Sequence[str]) -> list[bytes]:
    return [stock.signed_post(ACTIVATE, code) for code in codes]


def seat_requests(code: str, clients: int) -> list[bytes]:
    return [post(SEATS, {"code": code, "fingerprint": f"device-{client:05}"}) for client in range(clients)]


def statuses(answers: Sequence[Answer | None]) -> Counter[int]:
    assert None not in answers
    return Counter(answer.status for answer in answers if answer)


def error_codes(answers: Sequence[Answer | None]) -> Counter[str]:
    assert statuses(answers).keys() == {200}
    return Counter(answer.error_code for answer in answers if answer)


@dataclass
class Outcome:
    """What clients know after the kills: codes by what their last request came to."""

    acknowledged: set[str] = field(default_factory=set)
    in_doubt: set[str] = field(default_factory=set)
    untouched: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)

    def compare(self, stock: Stock) -> None:
        found = recorded(stock)
        self.lost |= {code for code in self.acknowledged if stock.licenses[code] not in found}

    async def load_and_kill(self, stock: Stock, server: Server, dice: random.Random) -> None:
        """Activate over 32 connections until the server dies."""
        deadly = dice.randint(FEWEST_ANSWERS, MOST_ANSWERS)
        later = dice.uniform(0, LONGEST_AFTER_S)

        def count(answered: int) -> None:
            if answered == deadly:
                asyncio.get_running_loop().call_later(later, server.kill)

        wave = self.untouched[:WAVE]
        load = await send(server.port, activations(stock, wave), connections=CONNECTIONS, on_answer=count)
        assert load.sent < len(wave), "the server was killed after the load, not under it"
        for code, answer in zip(wave[: load.sent], load.answers, strict=False):
            if answer is None:
                self.in_doubt.add(code)
            else:
                assert (answer.status, answer.error_code) == (200, SUCCESS)
                self.acknowledged.add(code)
        del self.untouched[: load.sent]


async def survive_kills(stock: Stock, server: Sequence[str], kills: int, log: Path) -> Outcome:
    """Kill the server so often under load; after each restart look for everything acknowledged so far."""
    dice = random.Random(2)  # noqa: S311 - the same kills in every run, as far as the machine allows
    outcome = Outcome(untouched=list(stock.licenses))
    for _ in range(kills):
        with running(*server, log=log) as process:
            outcome.compare(stock)
            await outcome.load_and_kill(stock, process, dice)
    with running(*server, log=log):
        outcome.compare(stock)
    return outcome


async def test_nothing_acknowledged_is_lost_in_twenty_kills_under_load(tmp_path: Path):
    stock = await make_stock(tmp_path / "data", licenses=3_000)
    log = tmp_path / "server.log"
    outcome = await survive_kills(stock, serving(stock.data_dir), KILLS, log)

    assert not outcome.lost
    assert len(outcome.acknowledged) >= KILLS * FEWEST_ANSWERS
    assert outcome.in_doubt, "no kill met a request in flight"
    with running(*serving(stock.data_dir), log=log) as server:
        doubtful = sorted(outcome.in_doubt)
        retried = await send(server.port, activations(stock, doubtful), connections=CONNECTIONS)
        assert error_codes(retried.answers).keys() <= {SUCCESS, ILLEGAL_STATE}

        activated = [stock.licenses[code] for code in outcome.acknowledged | outcome.in_doubt]
        assert recorded(stock) == dict.fromkeys(activated, 1)
        audit_is_clean(stock)


async def test_the_harness_catches_an_answer_before_the_commit(tmp_path: Path):
    stock = await make_stock(tmp_path / "data", licenses=900)
    outcome = await survive_kills(stock, planted(stock.data_dir, "early"), 3, tmp_path / "server.log")
    assert outcome.lost


async def test_of_a_thousand_simultaneous_activations_of_one_code_exactly_one_succeeds(tmp_path: Path):
    stock = await make_stock(tmp_path / "data", licenses=1)
    assert await thousand_activations(stock, serving(stock.data_dir)) == {SUCCESS: 1, ILLEGAL_STATE: 999}
    assert recorded(stock) == dict.fromkeys(stock.licenses.values(), 1)


async def test_the_harness_catches_a_code_that_is_activated_twice(tmp_path: Path):
    stock = await make_stock(tmp_path / "data", licenses=1)
    assert (await thousand_activations(stock, planted(stock.data_dir, "never")))[SUCCESS] > 1


async def thousand_activations(stock: Stock, server: Sequence[str]) -> Counter[str]:
    with running(*server, log=stock.data_dir / "server.log") as process:
        load = await send(process.port, activations(stock, [*stock.licenses] * 1_000), connections=250)
    return error_codes(load.answers)


async def test_two_hundred_clients_get_exactly_ten_seats_of_ten(tmp_path: Path):
    stock = await make_stock(tmp_path / "data", licenses=1, seats=10)
    assert await two_hundred_clients(stock, serving(stock.data_dir)) == {201: 10, 409: 190}
    assert seats_taken(stock) == dict.fromkeys(stock.licenses.values(), 10)


async def test_the_harness_catches_an_eleventh_seat_of_ten(tmp_path: Path):
    stock = await make_stock(tmp_path / "data", licenses=1, seats=10)
    assert (await two_hundred_clients(stock, planted(stock.data_dir, "never")))[201] > 10


async def two_hundred_clients(stock: Stock, server: Sequence[str]) -> Counter[int]:
    [code] = stock.licenses
    with running(*server, log=stock.data_dir / "server.log") as process:
        load = await send(process.port, seat_requests(code, 200), connections=200)
    return statuses(load.answers)


async def test_two_hundred_last_seats_are_each_sold_once(tmp_path: Path):
    stock = await make_stock(tmp_path / "data", licenses=200)
    with running(*serving(stock.data_dir), log=tmp_path / "server.log") as server:
        rivals = [request for code in stock.licenses for request in seat_requests(code, 16)]
        load = await send(server.port, rivals, connections=64)
    races = [load.answers[start : start + 16] for start in range(0, len(rivals), 16)]
    assert all(statuses(race) == {201: 1, 409: 15} for race in races)
    assert seats_taken(stock) == dict.fromkeys(stock.licenses.values(), 1)
