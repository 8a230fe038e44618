"""Two writing processes on one PostgreSQL: the rows decide, so neither oversells and no call wins twice."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from licensesvc.services.audit_database import audit_database
from licensesvc.services.seats import take_seat
from tests.services.test_service_activation import activated
from tests.support_edges import open_shop
from tests.support_storage import open_at


@pytest.fixture(params=["postgres"])
def engine(request):
    """A SQLite file has one writing process."""
    return request.param


@pytest.fixture
async def shops(rt, place):
    """One shop as two processes see it."""
    shop = await open_shop(rt, seats=10)
    second = await open_at(place, chain="second")
    yield [shop, replace(shop, rt=replace(rt, db=second))]
    await second.close()


async def outcomes(calls):
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return Counter(type(answer).__name__ if isinstance(answer, Exception) else "ok" for answer in answers)


async def test_one_activation_wins(shops):
    code = await shops[0].sell_code()

    assert await outcomes(activated(shops[n % 2], code) for n in range(400)) == {"ok": 1, "IllegalLicenseState": 399}
    assert (await audit_database(shops[0].rt)).clean


async def test_ten_seats_are_ten(shops):
    code = await shops[0].sell_code()

    counted = await outcomes(take_seat(shops[n % 2].rt, code, f"device {n}") for n in range(200))

    assert counted == {"ok": 10, "NoFreeSeat": 190}
    assert (await audit_database(shops[1].rt)).clean


async def test_many_licenses_at_once_all_start(shops):
    codes = [await shops[0].sell_code(f"CS{n}") for n in range(30)]

    assert await outcomes(activated(shops[n % 2], code) for n, code in enumerate(codes)) == {"ok": 30}
    report = await audit_database(shops[0].rt)
    assert report.clean, report.findings
