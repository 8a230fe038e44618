"""`POST /licenses/{id}/<verb>`: what the seller changes by hand, each with a reason, an audit event and the ETag that was read."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency, Provide
from litestar.params import JSONBody

from licensesvc.domain.errors import MailNotConfigured
from licensesvc.services.licenses import change_license
from licensesvc.services.licenses.change_license import (
    ChangeQuantity,
    FreeSeat,
    MoveExpiry,
    Renew,
    ResetActivation,
    Target,
    WithReason,
)
from licensesvc.services.mail.mail_code import SendCode, queue_code
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OPERATOR
from licensesvc.web.admin.answers import IdempotencyKey, IfMatch, PublicId, etag, perform, version_of
from licensesvc.web.admin.licenses import LicenseView, license_views
from licensesvc.web.problems import JSON_BODY, problems


class _Version(msgspec.Struct, frozen=True):
    version: int


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request to change a license, apart from its body."""

    request: Request[Any, Any, Any]
    rt: Runtime
    license_id: str
    version: int
    key: str | None

    async def change(
        self, data: WithReason, verb: Callable[[Tx, Target], Awaitable[LoadedLicense]]
    ) -> Response[LicenseView]:
        """Run one verb and answer with the license as it is then, and its new ETag."""
        target = Target(license_id=self.license_id, version=self.version, by=self.request.user.name, reason=data.reason)

        async def changed(tx: Tx) -> LicenseView:
            return (await license_views(tx, [await verb(tx, target)], self.rt.clock()))[0]

        response = await perform(self.request, self.rt, self.key, changed, status=200)
        # A replayed answer is bytes, and its tag is that of the answer, not of the license as it is by now.
        response.headers.update(etag(msgspec.json.decode(response.content, type=_Version).version))
        return response


async def asked(
    request: Request[Any, Any, Any],
    license_id: PublicId,
    runtime: NamedDependency[Runtime],
    if_match: IfMatch = None,
    idempotency_key: IdempotencyKey = None,
) -> Asked:
    """Collect what all these routes take."""
    return Asked(request=request, rt=runtime, license_id=license_id, version=version_of(if_match), key=idempotency_key)


def _verb(name: str, operation_id: str, *more: str) -> dict[str, Any]:
    return {
        "path": f"/licenses/{{license_id:str}}/{name}",
        "opt": OPERATOR,
        "operation_id": operation_id,
        "status_code": 200,
        "dependencies": {"asked": Provide(asked)},
        "responses": problems(
            *JSON_BODY,
            "NOT_FOUND",
            "PRECONDITION_REQUIRED",
            "STALE_VERSION",
            "ILLEGAL_LICENSE_STATE",
            "IDEMPOTENCY_KEY_REUSED",
            *more,
        ),
    }


@post(**_verb("suspend", "suspendLicense"))
async def suspend(data: JSONBody[WithReason], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """Suspend a license until it is reinstated; its time runs on. Suspending twice changes nothing."""
    return await asked.change(data, lambda tx, target: change_license.suspend(tx, asked.rt, target))


@post(**_verb("reinstate", "reinstateLicense"))
async def reinstate(data: JSONBody[WithReason], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """End the suspension of a license. A freeze by the marketplace stays."""
    return await asked.change(data, lambda tx, target: change_license.reinstate(tx, asked.rt, target))


@post(**_verb("revoke", "revokeLicense", "ILLEGAL_TRANSITION"))
async def revoke(data: JSONBody[WithReason], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """End a license for good; there is no way back."""
    return await asked.change(data, lambda tx, target: change_license.revoke(tx, asked.rt, target))


@post(**_verb("renew", "renewLicense", "LICENSE_NOT_ACTIVATED", "INVALID_PARAMETER"))
async def renew(data: JSONBody[Renew], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """Add a period to the end of a license; one that has ended begins anew now."""
    return await asked.change(data, lambda tx, target: change_license.renew(tx, asked.rt, target, data.period))


@post(**_verb("move-expiry", "moveLicenseExpiry", "INVALID_PARAMETER"))
async def move_expiry(data: JSONBody[MoveExpiry], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """Let a license end at a time or, with null, when marketplace and policy say; the operator's word is the strongest."""
    return await asked.change(
        data, lambda tx, target: change_license.move_expiry(tx, asked.rt, target, data.expires_at)
    )


@post(**_verb("change-quantity", "changeLicenseQuantity", "SEATS_IN_USE"))
async def change_quantity(data: JSONBody[ChangeQuantity], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """Sell more or fewer seats, never fewer than are taken."""
    return await asked.change(
        data, lambda tx, target: change_license.change_quantity(tx, asked.rt, target, data.quantity)
    )


@post(**_verb("replace-code", "replaceLicenseCode"))
async def replace_code(data: JSONBody[WithReason], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """Replace a code that leaked: the old one is unknown at once, seats stay taken. `GET …/code` shows the new one."""
    return await asked.change(data, lambda tx, target: change_license.replace_code(tx, asked.rt, target))


@post(**_verb("free-seat", "freeLicenseSeat", "ACTIVATION_NOT_FOUND"))
async def free_seat(data: JSONBody[FreeSeat], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """Force a seat free: that of an activation, or the one that was taken first."""
    return await asked.change(data, lambda tx, target: change_license.free_seat(tx, asked.rt, target, data.activation))


@post(**_verb("reset-activation", "resetLicenseActivation", "ACTIVATION_NOT_FOUND"))
async def reset_activation(data: JSONBody[ResetActivation], asked: NamedDependency[Asked]) -> Response[LicenseView]:
    """Free the seat of a device by its fingerprint, for example because it was installed anew."""
    return await asked.change(
        data, lambda tx, target: change_license.reset_activation(tx, asked.rt, target, data.fingerprint)
    )


@post(**_verb("send-code", "sendLicenseCode", "MAIL_NOT_CONFIGURED", "NO_MAIL_ADDRESS"))
async def send_code(
    data: JSONBody[SendCode], asked: NamedDependency[Asked], settings: NamedDependency[Settings]
) -> Response[LicenseView]:
    """Mail the license code to the buyer again, soon after the answer; a mail that waits already is not sent twice."""
    if not settings.smtp_url or not settings.mail_from:
        raise MailNotConfigured
    return await asked.change(data, lambda tx, target: queue_code(tx, asked.rt, target, data.language))


ROUTES: Final = (
    suspend,
    reinstate,
    revoke,
    renew,
    move_expiry,
    change_quantity,
    replace_code,
    free_seat,
    reset_activation,
    send_code,
)
