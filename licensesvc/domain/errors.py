"""Every "no" of the domain, one class each.

In: the errors with their codes and default messages. Out: HTTP statuses and the result codes of the marketplace, which
are tables at the edge.
"""

from typing import ClassVar


class DomainError(Exception):
    """The request cannot be carried out.

    The first line of a subclass's docstring is its default message; `code` is stable and public.
    """

    code: ClassVar[str] = "DOMAIN_ERROR"

    def __init__(self, detail: str | None = None) -> None:
        """Say what happened in this very case with `detail`; it may be shown to the caller."""
        self.message = detail or (self.__doc__ or self.code).partition("\n")[0]
        super().__init__(self.message)


class InvalidParameter(DomainError):
    """A parameter is outside its allowed range or form."""

    code = "INVALID_PARAMETER"


class NotFound(DomainError):
    """There is no such record."""

    code = "NOT_FOUND"


class AlreadyExists(DomainError):
    """A record with this identity exists already."""

    code = "ALREADY_EXISTS"


class StaleVersion(DomainError):
    """The record was changed by somebody else in the meantime."""

    code = "STALE_VERSION"


class IdempotencyKeyReused(DomainError):
    """The idempotency key was used before with another request."""

    code = "IDEMPOTENCY_KEY_REUSED"


class InProgress(DomainError):
    """The same request is being worked on."""

    code = "IN_PROGRESS"


class LicenseNotFound(DomainError):
    """The license code does not exist."""

    code = "LICENSE_NOT_FOUND"


class LicenseNotActivated(DomainError):
    """The license has not been activated."""

    code = "LICENSE_NOT_ACTIVATED"


class LicenseNotClaimed(DomainError):
    """The buyer has not claimed the license yet."""

    code = "LICENSE_NOT_CLAIMED"


class IllegalLicenseState(DomainError):
    """The state of the license does not allow this."""

    code = "ILLEGAL_LICENSE_STATE"


class InvalidCodeListed(DomainError):
    """The list holds a license code that this cannot be done with."""

    code = "INVALID_CODE_LISTED"

    def __init__(self, unknown: int) -> None:
        """Tell how many of the codes do not exist."""
        self.unknown = unknown
        super().__init__()


class MarketplaceAway(DomainError):
    """The marketplace does not answer: come back later."""

    code = "MARKETPLACE_AWAY"


class NoFreeSeat(DomainError):
    """All seats of the license are taken."""

    code = "NO_FREE_SEAT"


class SeatsInUse(DomainError):
    """More seats are taken than would be left."""

    code = "SEATS_IN_USE"


class MailNotConfigured(DomainError):
    """The server has no mail server to send with: set smtp_url and mail_from."""

    code = "MAIL_NOT_CONFIGURED"


class NoMailAddress(DomainError):
    """No mail address of the buyer is known."""

    code = "NO_MAIL_ADDRESS"


class ActivationNotFound(DomainError):
    """There is no such activation."""

    code = "ACTIVATION_NOT_FOUND"


class ProductNotMapped(DomainError):
    """No product of the connection is mapped to this marketplace product."""

    code = "PRODUCT_NOT_MAPPED"


class OrderConflict(DomainError):
    """The order line is known with other contents."""

    code = "ORDER_CONFLICT"


class OrderNotFound(DomainError):
    """There is no such order."""

    code = "ORDER_NOT_FOUND"


class OrderLineNotFound(DomainError):
    """The order has no such line."""

    code = "ORDER_LINE_NOT_FOUND"


class NotASeller(DomainError):
    """Only credentials of the seller may do this."""

    code = "NOT_A_SELLER"


class NotIssuable(DomainError):
    """Orders of this type or delivery kind are never issued a license."""

    code = "NOT_ISSUABLE"


class IllegalTransition(DomainError):
    """The event is not allowed in this state."""

    code = "ILLEGAL_TRANSITION"

    def __init__(self, state: str, event: str) -> None:
        """Name the `state` that was left unchanged and the `event` that it refused."""
        self.state = state
        self.event = event
        super().__init__(f"{event} is not allowed in {state}")


class NotRestartable(DomainError):
    """This was not made to be carried out again."""

    code = "NOT_RESTARTABLE"


class MarketplaceNotAsked(DomainError):
    """The marketplace could not be asked."""

    code = "MARKETPLACE_NOT_ASKED"


class NotRepairable(DomainError):
    """There is no safe repair of this."""

    code = "NOT_REPAIRABLE"


class ForbiddenActor(DomainError):
    """The event is possible in this state, but not by this actor."""

    code = "FORBIDDEN_ACTOR"

    def __init__(self, state: str, event: str, actors: str) -> None:
        """Name the `state` that was left unchanged, the `event`, and the `actors` from whom it may come."""
        self.state = state
        self.event = event
        super().__init__(f"in {state} the event {event} comes from {actors}")


class AcceptanceNotConfirmed(DomainError):
    """The marketplace has not confirmed the acceptance yet: confirm it, then complete the case."""

    code = "ACCEPTANCE_NOT_CONFIRMED"


class ProofMissing(DomainError):
    """The acceptance standard of the product asks for more than was uploaded."""

    code = "PROOF_MISSING"


class EndpointDisabled(DomainError):
    """Nothing is sent to the endpoint: enable it first."""

    code = "ENDPOINT_DISABLED"


class RateLimited(DomainError):
    """There were too many attempts."""

    code = "RATE_LIMITED"

    def __init__(self, limit: str, *, count: int, window_s: int, wait_s: int) -> None:
        """Name the `limit` of `count` attempts in `window_s` seconds, and the seconds until the next one is free."""
        self.limit = limit
        self.count = count
        self.window_s = window_s
        self.wait_s = wait_s
        super().__init__(f"too many attempts ({limit}): come back in {wait_s} s")
