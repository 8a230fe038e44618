"""The shipped proxy profiles in front of chosen upstreams, run by the real nginx and Caddy where they are installed.

In: filling in ports and certificates, starting, stopping. Out: what is asked through them. Every replaced text must be there:
a profile that changes shape fails here instead of being tested in part.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

DEPLOY = Path(__file__).parents[1] / "deploy"
NAME = "127.0.0.1"
START_LIMIT_S = 20.0


class Files:
    """A certificate for the loopback address in files."""

    def __init__(self, authority: trustme.CA, directory: Path) -> None:
        leaf = authority.issue_cert(NAME, "localhost")
        self.cert = directory / "fullchain.pem"
        self.key = directory / "privkey.pem"
        self.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.key.touch(0o600)
        self.key.write_bytes(leaf.private_key_pem.bytes())


@contextmanager
def running_nginx(
    directory: Path, files: Files, upstreams: Sequence[int], *, spoilt: Mapping[str, str] | None = None
) -> Iterator[int]:
    """nginx with deploy/nginx.conf; yields its port. `spoilt` changes the profile for a control."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx)")
    port = free_port()
    servers = "\n".join(f"server {NAME}:{upstream} max_fails=0;" for upstream in upstreams)
    temporary = "\n".join(
        f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = _filled(
        "nginx.conf",
        {
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "worker_processes auto;": "worker_processes 1;",
            "/run/nginx.pid": f"{directory}/nginx.pid",
            "/var/log/nginx/": f"{directory}/",
            "http {\n": f"http {{\n{temporary}\n",
            "server 127.0.0.1:8080 max_fails=0;": servers,
            "listen 443 ssl backlog=4096;": f"listen {NAME}:{port} ssl backlog=4096;",
            "listen [::]:443 ssl backlog=4096;": "",
            "/etc/ssl/licensesvc/fullchain.pem": str(files.cert),
            "/etc/ssl/licensesvc/privkey.pem": str(files.key),
            **(spoilt or {}),
        },
    )
    path = directory / "nginx.conf"
    path.write_text(conf)
    arguments = [program, "-p", str(directory), "-e", "stderr", "-c", str(path), "-g", "daemon off;"]
    with _running(arguments, port, directory):
        yield port


@contextmanager
def running_caddy(directory: Path, files: Files, upstreams: Sequence[int]) -> Iterator[int]:
    """Caddy with deploy/Caddyfile; yields its port."""
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("caddy is not installed (Debian: apt-get install caddy)")
    port = free_port()
    servers = " ".join(f"{NAME}:{upstream}" for upstream in upstreams)
    conf = _filled(
        "Caddyfile",
        {
            "{\n\tservers {": "{\n\tadmin off\n\tauto_https off\n\tservers {",
            "licenses.example.com {": f":{port} {{\n\tbind {NAME}\n\ttls {files.cert} {files.key}",
            "reverse_proxy 127.0.0.1:8080 {": f"reverse_proxy {servers} {{\n\t\tlb_policy first",
        },
    )
    path = directory / "Caddyfile"
    path.write_text(conf)
    with _running([program, "run", "--adapter", "caddyfile", "--config", str(path)], port, directory):
        yield port


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server((NAME, 0)) as listening:
        return int(listening.getsockname()[1])


def _filled(name: str, changes: Mapping[str, str]) -> str:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text, f"{name} has no longer: {old}"
        text = text.replace(old, new)
    return text


@contextmanager
def _running(arguments: Sequence[str], port: int, directory: Path) -> Iterator[None]:
    log = directory / "proxy.log"
    home = {"HOME": str(directory), "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    with (
        log.open("wb") as errors,
        subprocess.Popen(arguments, stdout=errors, stderr=errors, env={**os.environ, **home}) as process,
    ):
        try:
            _wait(process, port, log)
            yield
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((NAME, port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"{process.args} did not start:\n{log.read_text(errors='replace')}")
