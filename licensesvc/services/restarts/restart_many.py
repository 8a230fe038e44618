"""Restarts many messages, one after the other in the order in which they came, within bounds of number and time.

In: which, in what order, when to stop. Out: restarting one (`restart_message`).
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from licensesvc.domain.errors import DomainError, InvalidParameter, MarketplaceNotAsked
from licensesvc.domain.instants import parse_rfc3339
from licensesvc.domain.messages import UNDONE, MessageState
from licensesvc.services.restarts.restart_message import Restarted, Restarter, RestartWish
from licensesvc.storage import messages
from licensesvc.storage.message_search import MessageSearch
from licensesvc.storage.port import Tx

MOST: Final = 100
"""Messages in one request."""
BULK_S: Final = 15.0
"""Seconds after which a request begins with no further message: its caller waits no longer than 30 s."""
UNANSWERED: Final = 3
"""Times in a row that the marketplace does not answer before the rest is left for later."""

MessageId = Annotated[str, msgspec.Meta(max_length=40, pattern=r"^msg_[0-9a-z]{26}$(?!\n)")]
OurId = Annotated[str, msgspec.Meta(max_length=40, pattern=r"^[a-z]{2,8}_[0-9a-z]{26}$(?!\n)")]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[!-~]+$(?!\n)")]
Stopped: TypeAlias = Literal["time", "marketplace"]
Time = Annotated[str, msgspec.Meta(max_length=40, examples=["2026-11-23T16:00:00.000Z"])]


class Undone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Live messages of proven senders that neither succeeded nor were followed by one that did."""

    state: MessageState | None = None
    activity: Word | None = None
    order_id: Word | None = None
    connection: OurId | None = None
    license: OurId | None = None
    direction: Annotated[str, msgspec.Meta(pattern=r"^(in|out)$(?!\n)")] = "in"
    since: Time | None = None
    until: Time | None = None

    def search(self) -> MessageSearch:
        """The conditions. Raises InvalidParameter."""
        if self.state is not None and self.state not in UNDONE:
            raise InvalidParameter(
                f"only messages in {' or '.join(UNDONE)} are restarted by a filter: name others by id"
            )
        return MessageSearch(
            order_id=self.order_id,
            connection=self.connection,
            license=self.license,
            direction=self.direction,
            activity=self.activity,
            purpose="live",
            since=None if self.since is None else parse_rfc3339(self.since),
            until=None if self.until is None else parse_rfc3339(self.until),
            states=UNDONE if self.state is None else (self.state,),
        )


class RestartMany(RestartWish, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """These messages, or those that a filter finds: at most `limit` of them, behind the message `after`."""

    ids: Annotated[tuple[MessageId, ...], msgspec.Meta(min_length=1, max_length=MOST)] | None = None
    filter: Undone | None = None
    after: MessageId | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = MOST


class RestartedMany(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each message, in order; `left` are those for another request, because its `time` was over, or the `marketplace` silent.

    `after` goes into that request where a filter was given; null = the filter finds no more.
    """

    items: list[Restarted]
    left: list[str]
    after: str | None
    stopped: Stopped | None = None


async def restart_many(restarter: Restarter, wish: RestartMany, *, by: str) -> RestartedMany:
    """Restart them. Raises InvalidParameter; what one message refuses is its item."""
    if (wish.ids is None) == (wish.filter is None):
        raise InvalidParameter("give either ids or a filter")
    ids, more = await _chosen(restarter, wish)
    items: list[Restarted] = []
    unanswered = 0
    deadline = asyncio.get_running_loop().time() + BULK_S
    stopped: Stopped | None = None
    for message_id in ids:
        if asyncio.get_running_loop().time() >= deadline:
            stopped = "time"
            break
        if unanswered >= UNANSWERED:
            stopped = "marketplace"
            break
        item = await _one(restarter, message_id, wish, by)
        unanswered = unanswered + 1 if item.code == MarketplaceNotAsked.code else 0
        items.append(item)
    left = list(ids[len(items) :])
    following = ids[len(items) - 1] if wish.filter is not None and items and (left or more) else None
    return RestartedMany(items=items, left=left, after=following, stopped=stopped)


async def _chosen(restarter: Restarter, wish: RestartMany) -> tuple[Sequence[str], bool]:
    """The ids in the order in which the messages came, each once, and whether the filter would find more."""
    if wish.filter is None:
        named = set(wish.ids or ())
        known = await restarter.rt.db.read(lambda tx: messages.in_order(tx, named))
        return [*known, *sorted(named - set(known))], False
    where = wish.filter.search().where()

    async def find(tx: Tx) -> list[str]:
        behind = await messages.by_public_id(tx, wish.after) if wish.after is not None else None
        if wish.after is not None and behind is None:
            raise InvalidParameter("after names no message")
        after = 0 if behind is None else behind.id
        return [
            message.public_id for message in await messages.page(tx, after=after, limit=wish.limit + 1, where=where)
        ]

    found = await restarter.rt.db.read(find)
    return found[: wish.limit], len(found) > wish.limit


async def _one(restarter: Restarter, message_id: str, wish: RestartWish, by: str) -> Restarted:
    try:
        return await restarter.restart(message_id, wish, by=by)
    except DomainError as refused:
        return Restarted(message=message_id, result="refused", code=refused.code, detail=refused.message)
