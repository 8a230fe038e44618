"""Finding interface messages by what people ask about them."""

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.messages import MessageState
from licensesvc.storage.messages import ABOUT_LICENSE, NOT_SUCCEEDED, STATES, Purpose
from licensesvc.storage.where import EVERYTHING, Where


class MessageSearch(msgspec.Struct, frozen=True, kw_only=True):
    """What must be true of a message; None asks for nothing.

    `connection` and `license` are our ids; `since` is included, `until` is not, both mean when the message came in or went out.
    """

    order_id: str | None = None
    connection: str | None = None
    license: str | None = None
    direction: str | None = None
    activity: str | None = None
    outcome: str | None = None
    purpose: Purpose | None = None
    restart_of: str | None = None
    since: Instant | None = None
    until: Instant | None = None
    states: tuple[MessageState, ...] = ()
    """One of these; empty asks for nothing."""

    def where(self) -> Where:
        """The conditions."""
        where = (
            EVERYTHING.given("m.order_id = {}", self.order_id)
            .given("m.connection_id = (SELECT id FROM connections WHERE public_id = {})", self.connection)
            .given(ABOUT_LICENSE, self.license)
            .given("m.direction = {}", self.direction)
            .given("m.activity = {}", self.activity)
            .given("m.outcome = {}", self.outcome)
            .given("m.purpose = {}", self.purpose)
            .given("m.restart_of = {}", self.restart_of)
            .given("m.received_at >= {}", self.since)
            .given("m.received_at < {}", self.until)
        )
        if not self.states:
            return where
        if len(self.states) == 1:  # as it stands: the partial index serves it
            return where.always(STATES[self.states[0]])
        if MessageState.SUCCEEDED not in self.states:
            where = where.always(NOT_SUCCEEDED)
        return where.always(f"({' OR '.join(f'({STATES[state]})' for state in self.states)})")
