"""Interface messages (生产接口消息) as the seller sees them: where one stands, and whether it can be carried out again.

In: states, what counts as success, which calls need the marketplace's word before a restart. Out: how they are kept and carried out.
"""

from enum import StrEnum
from typing import Final

SUCCEEDED_OUTCOMES: Final = ("000000", "ok")
"""Of a callback (spec §2.0) and of a call of ours."""
IN_PROGRESS_OUTCOME: Final = "000004"
"""The answer to a callback whose effect takes longer (spec §2.0)."""


class MessageState(StrEnum):
    """Where a message stands."""

    SUCCEEDED = "SUCCEEDED"
    """It was carried out."""
    IN_PROGRESS = "IN_PROGRESS"
    """It was answered "in progress", and nothing that succeeded followed."""
    FAILED = "FAILED"
    """It was refused or failed, and nothing that succeeded followed."""
    RETRIED = "RETRIED"
    """It did not succeed, but a later call of the same activity about the same order did."""
    RESTARTED = "RESTARTED"
    """It did not succeed, but an operator's restart of it did."""
    UNPROVEN = "UNPROVEN"
    """Its sender did not prove to be the marketplace, so it was not carried out and never will be."""


UNDONE: Final = (MessageState.FAILED, MessageState.IN_PROGRESS)
"""What a restart is for."""

PURCHASES: Final = frozenset({"getLicense", "newInstance"})
"""Activities that deliver what an order buys: never for an order that was cancelled."""
ASKED_FIRST: Final = PURCHASES | {"orderNotify"}
"""Activities whose order must still be there when they are restarted."""
OVERTAKEN: Final = frozenset(
    {
        *("refreshLicenseCode", "updateLicenseCodeStatus", "refreshLicense", "expireLicense"),
        *("refreshInstance", "updateInstanceStatus", "expireInstance", "instanceStatus", "upgrade", "upgradeInstance"),
    }
)
"""Activities that say how things are from now on: carried out again behind a later one of their kind, they would undo it."""
