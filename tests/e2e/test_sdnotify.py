"""What systemd is told by a server of `Type=notify`."""

import os
import signal
import socket
from pathlib import Path

import httpx2
import pytest

from licensesvc.cli.sdnotify import notify, watchdog_seconds


@pytest.fixture
def manager(tmp_path: Path):
    """Stands for systemd: a datagram socket with patience."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(30)
        yield listening


def test_systemd_hears_ready_signs_of_life_and_the_end(data: Path, start, manager: socket.socket):
    server = start(
        "serve", "--data-dir", data, "--port", 0, NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="100000"
    )

    assert manager.recv(100) == b"READY=1"
    assert httpx2.get(f"{server.url}/readyz").status_code == 200
    assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    assert server.stop(signal.SIGTERM) == 0
    told = [manager.recv(100)]
    while told[-1] != b"STOPPING=1":
        told.append(manager.recv(100))
    assert set(told[:-1]) <= {b"WATCHDOG=1"}


def test_a_start_that_fails_is_never_called_ready(data: Path, licensesvc, manager: socket.socket):
    (data / "signing-keys.json").unlink()
    outcome = licensesvc("serve", "--data-dir", data, "--port", 0, NOTIFY_SOCKET=manager.getsockname())

    assert outcome.returncode == 2
    manager.settimeout(0)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_an_abstract_socket_is_reached_too():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0licensesvc-test-{os.getpid()}")
        listening.settimeout(30)
        notify("READY=1", {"NOTIFY_SOCKET": f"@licensesvc-test-{os.getpid()}"})
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all", "@nobody-listens", "/dev/null"])
def test_without_a_manager_nothing_happens(address: str | None):
    notify("READY=1", {} if address is None else {"NOTIFY_SOCKET": address})


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_signs_of_life_come_twice_as_often_as_wanted(environment: dict[str, str], seconds: float | None):
    assert watchdog_seconds(environment) == seconds
