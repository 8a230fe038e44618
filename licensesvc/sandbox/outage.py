"""The sandbox's open API out of order, as whoever tests a seller's program wants it: refusing, silent, hanging up, or now and then (chaos).

In: which disturbance meets a call. Out: doing it (`endpoint`).
"""

from enum import StrEnum

from licensesvc.sandbox.chaos import Chaos, Misfortune


class OutageKind(StrEnum):
    """How calls of the open API are disturbed. What they ask for is done in the last case only."""

    NONE = "none"
    UNAVAILABLE = "unavailable"
    """503."""
    SILENT = "silent"
    """No answer, for as long as the caller waits."""
    DROP = "drop"
    """The connection is closed instead of an answer."""
    LOST = "lost"
    """The call is carried out, and the connection is closed instead of the answer."""


class Outage:
    """How the open API behaves: always one way, or by the dice of chaos."""

    def __init__(self) -> None:
        self.kind = OutageKind.NONE
        self.chaos: Chaos | None = None

    def next(self, path: str) -> OutageKind:
        """What meets the next call of this URI."""
        if self.kind is not OutageKind.NONE or self.chaos is None:
            return self.kind
        return OutageKind.UNAVAILABLE if self.chaos.api_call(path) is Misfortune.UNAVAILABLE else OutageKind.NONE
