"""What is sold: policies, and products that map what the marketplace sells to them."""

from typing import Annotated, TypeAlias

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import PeriodUnit
from licensesvc.domain.policy import Binding, LicenseField, Period, Policy, Term
from licensesvc.domain.product import DEFAULT_CODE_PREFIX, DeliveryKind, Product
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, catalog, connections
from licensesvc.storage.port import Tx

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=100, examples=["one year, 5 seats"])]
MarketplaceId: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[!-~]+$(?!\n)")]


class PeriodFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A length of time by the calendar, at most a century."""

    unit: PeriodUnit
    count: Annotated[int, msgspec.Meta(ge=1, le=36_500)]

    def period(self) -> Period:
        """The domain's value; raises InvalidParameter."""
        return Period(unit=self.unit, count=self.count)


class CreatePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions of licenses: `period` exactly with term PERIOD, `lease_seconds` exactly with FLOATING, `seats` null = the order's amount."""

    name: Name
    term: Term
    period: PeriodFields | None = None
    grace_days: int = 0
    freeze_days: int = 15
    seats: int | None = None
    binding: Binding = Binding.NONE
    lease_seconds: int | None = None
    offline_days: int = 7
    entitlements: tuple[str, ...] = ()
    license_field: LicenseField = LicenseField.CODE


class CreateProduct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product of a connection under a policy; an empty `sku_code` maps every SKU of the marketplace's product."""

    connection: str
    policy: str
    name: Name
    marketplace_product_id: MarketplaceId
    sku_code: MarketplaceId | None = None
    delivery_kind: DeliveryKind
    code_prefix: str = DEFAULT_CODE_PREFIX


async def create_policy(tx: Tx, rt: Runtime, command: CreatePolicy, *, by: str) -> Policy:
    """Add a policy. Raises InvalidParameter; a name that exists already violates a UNIQUE constraint."""
    if command.binding is Binding.FLOATING or command.grace_days:
        # Known to the domain, honored by no door yet: better refused than promised.
        raise InvalidParameter(
            "floating seats and grace periods are not served yet: leave binding FLOATING and grace_days out"
        )
    now = rt.clock()
    fields = {name: getattr(command, name) for name in command.__struct_fields__}
    fields["period"] = command.period.period() if command.period else None
    policy = Policy(id=0, public_id=rt.new_id(ids.POLICY, now), **fields)
    policy_id = await catalog.insert_policy(tx, policy, now=now)
    detail: dict[str, str | int | None] = {"name": policy.name}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="policy.created", subject=policy.public_id, detail=detail)]
    )
    return msgspec.structs.replace(policy, id=policy_id)


async def create_product(tx: Tx, rt: Runtime, command: CreateProduct, *, by: str) -> Product:
    """Add a product. Raises InvalidParameter; one that maps the same violates a UNIQUE constraint."""
    connection = await connections.by_public_id(tx, command.connection)
    if connection is None:
        raise InvalidParameter(f"there is no connection {command.connection}")
    policy = await catalog.policy_by_public_id(tx, command.policy)
    if policy is None:
        raise InvalidParameter(f"there is no policy {command.policy}")
    now = rt.clock()
    product = Product(
        id=0,
        public_id=rt.new_id(ids.PRODUCT, now),
        connection_id=connection.connection.id,
        policy_id=policy.id,
        name=command.name,
        marketplace_product_id=command.marketplace_product_id,
        sku_code=command.sku_code or "",
        delivery_kind=command.delivery_kind,
        code_prefix=command.code_prefix,
    )
    product_id = await catalog.insert_product(tx, product, now=now)
    detail: dict[str, str | int | None] = {"name": product.name, "policy": policy.public_id}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="product.created", subject=product.public_id, detail=detail)]
    )
    return msgspec.structs.replace(product, id=product_id)
