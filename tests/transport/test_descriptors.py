"""The limit of open files follows the number of connections, as far as the host allows."""

import resource

import pytest
from structlog.testing import capture_logs

from licensesvc.cli import serving

ENDLESS = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "raised_to", "warned"),
    [
        (1_024, 524_288, 4_256, False),
        (1_024, ENDLESS, 4_256, False),
        (8_192, 524_288, None, False),
        (ENDLESS, ENDLESS, None, False),
        (1_024, 2_000, 2_000, False),
        (1_024, 1_100, 1_100, True),
    ],
)
def test_the_limit_is_raised_as_far_as_needed_and_allowed(monkeypatch, soft, hard, raised_to, warned):
    changes = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: changes.append(limits))

    with capture_logs() as logs:
        serving._allow_descriptors(1_000)

    assert changes == ([] if raised_to is None else [(raised_to, hard)])
    assert [record["event"] for record in logs] == ["few_descriptors"] * warned
