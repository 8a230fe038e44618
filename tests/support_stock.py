"""A data directory with licenses that software may activate, made by the services before a server starts on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from licensesvc.app import create_data, migrate_database, now, open_runtime
from licensesvc.domain.connection import Connection, Site
from licensesvc.domain.instants import PeriodUnit
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.domain.policy import Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.access.manage_credentials import CreateCredential, create_credential
from licensesvc.services.catalog.manage_catalog import (
    CreatePolicy,
    CreateProduct,
    PeriodFields,
    create_policy,
    create_product,
)
from licensesvc.services.catalog.manage_connections import CreateConnection, create_connection
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage.credentials import Scope
from licensesvc.storage.port import Tx
from tests.support_load import signed_post

BATCH = 250
"""Orders received in one transaction."""
BY = "test"
SOLD = "OFFI100"


@dataclass(frozen=True)
class Stock:
    """A data directory, the credential of its software, and its licenses in state ISSUED: public id by code."""

    data_dir: Path
    access_key: str
    secret_key: str
    licenses: Mapping[str, str]

    def signed_post(self, path: str, code: str) -> bytes:
        """A call of the compatible API about one code, as the software signs it now."""
        return signed_post(path, {"license": code}, access_key=self.access_key, secret_key=self.secret_key, now=now())


async def make_stock(
    data_dir: Path,
    *,
    licenses: int,
    seats: int = 1,
    database_url: str = "",
    progress: Callable[[int], None] = lambda _made: None,
) -> Stock:
    """Make the data directory with orders for so many licenses; `progress` hears how many there are so far."""
    settings = Settings(data_dir=str(data_dir), database_url=database_url)
    create_data(settings)
    await migrate_database(settings)
    made: dict[str, str] = {}
    async with open_runtime(settings) as rt:
        connection, access_key, secret_key = await rt.db.write(lambda tx: _open_shop(tx, rt))

        async def sell(tx: Tx) -> None:
            for number in range(len(made), min(len(made) + BATCH, licenses)):
                code, license_id = await _sell(tx, rt, connection, number, seats)
                made[code] = license_id

        while len(made) < licenses:
            await rt.db.write(sell)
            progress(len(made))
    return Stock(data_dir, access_key, secret_key, made)


async def _open_shop(tx: Tx, rt: Runtime) -> tuple[Connection, str, str]:
    """A connection with one product, and the access and secret key of its software."""
    connection = (await create_connection(tx, rt, CreateConnection(name="cn", site=Site.CN), by=BY)).connection
    year = PeriodFields(unit=PeriodUnit.YEAR, count=1)
    policy = await create_policy(tx, rt, CreatePolicy(name="one year", term=Term.PERIOD, period=year), by=BY)
    product = await create_product(
        tx,
        rt,
        CreateProduct(
            connection=connection.public_id,
            policy=policy.public_id,
            name="Widget",
            marketplace_product_id=SOLD,
            delivery_kind=DeliveryKind.LICENSE_1_0,
        ),
        by=BY,
    )
    wanted = CreateCredential(
        connection=connection.public_id, scope=Scope.DEVICE, product=product.public_id, name="Widget"
    )
    credential, secret_key = await create_credential(tx, rt, wanted, by=BY)
    return connection, credential.access_key, secret_key


async def _sell(tx: Tx, rt: Runtime, connection: Connection, number: int, seats: int) -> tuple[str, str]:
    """Receive one order and return the code and the public id of its license."""
    facts = OrderFacts(order_id=f"CS{number}", order_type=OrderType.NEW, marketplace_product_id=SOLD, amount=seats)
    received = await receive_line(tx, rt, connection, facts, buyer=None, source=BY, by=BY)
    assert received.license is not None
    return await open_code(tx, rt, received.license), received.license.view.public_id
