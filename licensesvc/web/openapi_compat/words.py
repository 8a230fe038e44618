"""How each family of calls says no: from the domain's refusals to the marketplace's result codes (spec §§1.6, 1.8)."""

from collections.abc import Mapping
from typing import Final

from licensesvc.domain import errors
from licensesvc.domain.connection import ErrorTable
from licensesvc.domain.errors import DomainError, RateLimited
from licensesvc.marketplace.huawei import openapi
from licensesvc.marketplace.huawei.openapi import OpenApiFault
from licensesvc.marketplace.huawei.orders import OrderFault, order_failure
from licensesvc.marketplace.huawei.result_codes import OpenApiCode, OrderCode, gateway_throttled
from licensesvc.web.openapi_compat.endpoint import Words

_LICENSE_CODES: Final[Mapping[type[DomainError], OpenApiCode]] = {
    errors.InvalidParameter: OpenApiCode.INVALID_PARAM,
    errors.IllegalLicenseState: OpenApiCode.ILLEGAL_STATE,
    errors.LicenseNotClaimed: OpenApiCode.NOT_CLAIMED,
    errors.LicenseNotFound: OpenApiCode.UNKNOWN_CODE,
    errors.LicenseNotActivated: OpenApiCode.NOT_ACTIVATED,
    errors.InvalidCodeListed: OpenApiCode.INVALID_CODE_IN_LIST,
}
_ORDER_CODES: Final[Mapping[type[DomainError], OrderCode]] = {
    errors.OrderNotFound: OrderCode.ILLEGAL_OPERATION,
    errors.OrderLineNotFound: OrderCode.PARAMETER_ERROR,
    errors.NotASeller: OrderCode.NO_AUTHORITY,
}


def _throttled(no: RateLimited, _table: ErrorTable, request_id: str) -> tuple[int, bytes]:
    """Our own words would be none that this family knows: the gateway's (docs/marketplace-divergences.md)."""
    return gateway_throttled(no.limit, no.count, no.window_s, request_id)


LICENSE_WORDS: Final = Words(
    fault=OpenApiFault,
    codes=_LICENSE_CODES,
    internal_error=OpenApiCode.INTERNAL_ERROR,
    failure=openapi.failure,
    throttled=_throttled,
)
ORDER_WORDS: Final = Words(
    fault=OrderFault,
    codes=_ORDER_CODES,
    internal_error=OrderCode.INTERNAL_ERROR,
    failure=order_failure,
    throttled=lambda _no, table, _request_id: order_failure(OrderCode.TOO_FREQUENT, table),
)
