from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from licensesvc.domain.product import DeliveryKind
from tests.support_calls import CODE, Sender
from tests.support_edges import Edge, ask, get_license_target, open_edge, open_shop
from tests.support_web import Site, open_site


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as opened:
        yield opened


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with open_edge(tmp_path) as opened:
        yield opened


@pytest.fixture
async def two(edge: Edge) -> Sender:
    """A shop of License 2.0 with one license, and the marketplace that calls it."""
    shop = await open_shop(edge.rt, name="two", sold="OFFI200", kind=DeliveryKind.LICENSE_2_0)
    await shop.sell(code=CODE)
    return Sender(edge, shop)


@pytest.fixture
async def one(edge: Edge) -> Sender:
    """The shop of License 1.0 after getLicense, and the marketplace that calls it."""
    delivered = await ask(edge.app, "GET", get_license_target(edge.shop, edge.clock.now))
    assert delivered.json["resultCode"] == "000000"
    return Sender(edge, edge.shop)
