"""Clients that hang up, or are cut, in the middle of a body: nobody is answered, nothing is logged as an error."""

import pytest
from structlog.testing import capture_logs

from tests.support_limits import open_limited
from tests.support_load import ACTIVATE


@pytest.mark.parametrize("path", ["/v1/licenses/validate", "/v1/activations", ACTIVATE, "/callbacks/con_x"])
async def test_a_client_that_hangs_up_is_no_error_of_ours(tmp_path, path):
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"a"), (b"content-type", b"application/json"), (b"content-length", b"10")],
        "client": ("198.51.100.7", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(_message):
        pass

    async with open_limited(tmp_path) as site:
        with capture_logs() as logs:
            await site.app(scope, receive, send)

    assert [record for record in logs if record["log_level"] in {"error", "critical"}] == []
