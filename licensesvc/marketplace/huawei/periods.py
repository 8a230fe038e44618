"""`periodType` and `periodNumber` (spec §§1.6, 2.2), which several calls carry."""

from typing import Final

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import PeriodUnit
from licensesvc.domain.policy import Period

_UNITS: Final = {"year": PeriodUnit.YEAR, "month": PeriodUnit.MONTH, "day": PeriodUnit.DAY}


def period_of(period_type: str | None, period_number: int | None) -> Period | None:
    """Read the two fields, the unit in any case; None unless both are there.

    Raises InvalidParameter, for an unknown unit also where the number is absent.
    """
    if not period_type:
        return None
    unit = _UNITS.get(period_type.lower())
    if unit is None:
        raise InvalidParameter("periodType is not year, month or day")
    if period_number is None:
        return None
    return Period(unit=unit, count=period_number)


def fields_of(period: Period | None) -> tuple[str | None, int | None]:
    """Write the two fields, `year`, `month` or `day` and the number."""
    return (None, None) if period is None else (period.unit.lower(), period.count)
