"""Codes that the buyer must claim first: refused at every door until then, alone and in lists (spec §5.2)."""

import asyncio

import pytest

from licensesvc.domain.errors import InvalidCodeListed, LicenseNotClaimed
from licensesvc.domain.instants import DAY, parse_rfc3339
from licensesvc.domain.license import LicenseState
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import Event
from licensesvc.services.licenses.activate import activate
from licensesvc.services.licenses.seats import take_seat
from licensesvc.services.upkeep.audit_database import audit_database
from tests.services.test_service_activation import activation
from tests.services.test_service_batches import activated_all
from tests.support_cases import WRITTEN, license_of, record
from tests.support_edges import change, open_shop, rows

WAYS = {
    "single": lambda shop, code, _: shop.rt.db.submit(activate, activation(shop, code)),
    "list": lambda shop, code, new: activated_all(shop, [new, code]),
    "seat": lambda shop, code, _: take_seat(shop.rt, code, "device"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order_time", ["2024-01-01T00:00:00Z", "2025-04-24T15:59:59Z", "2025-04-24T16:00:00Z"])
async def test_an_old_code_is_activated_once_it_is_claimed(rt, order_time, way):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    code = await shop.sell_code("CS1", code="PL-1", order_time=parse_rfc3339(order_time))
    case_id = (await shop.sell("CS1")).case.public_id
    if order_time == "2025-04-24T16:00:00Z":  # nobody claims any more
        await WAYS[way](shop, code, await shop.sell_code("CS2", code="PL-2"))
        return
    new = await shop.sell_code("CS2", code="PL-2")
    for event in (Event.DELIVERED, Event.CLAIMED):
        before = await rows(rt, *WRITTEN, "activations")
        for refused in (
            lambda: rt.db.submit(activate, activation(shop, code)),
            lambda: activated_all(shop, [code]),
            lambda: activated_all(shop, [code], real_effect_time=1),  # the state goes before the parameters
            lambda: take_seat(rt, code, "device"),
        ):
            with pytest.raises(LicenseNotClaimed):
                await refused()
        with pytest.raises(InvalidCodeListed):
            await activated_all(shop, [new, code])
        assert await rows(rt, *WRITTEN, "activations") == before
        assert (await license_of(shop, case_id)).state is LicenseState.ISSUED
        await record(shop, case_id, event)

    await WAYS[way](shop, code, new)

    assert (await license_of(shop, case_id)).state is LicenseState.ACTIVE
    assert (await audit_database(rt)).findings == ()


async def test_an_unclaimed_code_in_a_batch_spoils_no_other_call(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    old = await shop.sell_code("CS1", code="PL-1", order_time=parse_rfc3339("2025-01-01T00:00:00Z"))
    new = await shop.sell_code("CS2", code="PL-2")

    seats = await asyncio.gather(
        take_seat(rt, old, "device"), take_seat(rt, new, "device"), activated_all(shop, [old]), return_exceptions=True
    )

    assert [type(answer).__name__ for answer in seats] == ["LicenseNotClaimed", "Seat", "LicenseNotClaimed"]
    assert (await audit_database(rt)).findings == ()


async def test_a_code_in_service_gives_seats_whatever_its_case_says(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    code = await shop.sell_code("CS1", code="PL-1", order_time=parse_rfc3339("2025-01-01T00:00:00Z"))
    await change(
        rt,
        "UPDATE license_states SET state = 'ACTIVE', activated_at = 1, service_start = 1, expires_at = $1",
        rt.clock() + DAY,
    )

    assert (await take_seat(rt, code, "device")).is_new
