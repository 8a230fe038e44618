"""How each family of calls says no: from the domain's refusals to the marketplace's result codes (spec §§1.6, 1.8)."""

from collections.abc import Mapping
from typing import Final

from licensesvc.domain import errors
from licensesvc.domain.connection import ErrorTable
from licensesvc.domain.errors import DomainError, RateLimited
from licensesvc.marketplace.huawei import openapi
from licensesvc.marketplace.huawei.openapi import OpenApiFault
from licensesvc.marketplace.huawei.result_codes import OpenApiCode, gateway_throttled
from licensesvc.web.openapi_compat.endpoint import Words

_CODES: Final[Mapping[type[DomainError], OpenApiCode]] = {
    errors.InvalidParameter: OpenApiCode.INVALID_PARAM,
    errors.IllegalLicenseState: OpenApiCode.ILLEGAL_STATE,
    errors.LicenseNotClaimed: OpenApiCode.NOT_CLAIMED,
    errors.LicenseNotFound: OpenApiCode.UNKNOWN_CODE,
    errors.LicenseNotActivated: OpenApiCode.NOT_ACTIVATED,
    errors.InvalidCodeListed: OpenApiCode.INVALID_CODE_IN_LIST,
}


def _throttled(no: RateLimited, _table: ErrorTable, request_id: str) -> tuple[int, bytes]:
    """Our own words would be none that this family knows: the gateway's (docs/marketplace-divergences.md)."""
    return gateway_throttled(no.limit, no.count, no.window_s, request_id)


LICENSE_WORDS: Final = Words(
    fault=OpenApiFault,
    codes=_CODES,
    internal_error=OpenApiCode.INTERNAL_ERROR,
    failure=openapi.failure,
    throttled=_throttled,
)
