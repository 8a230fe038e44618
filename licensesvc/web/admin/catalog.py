"""`/policies` and `/products`: what is sold on which terms."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from licensesvc.domain.errors import NotFound
from licensesvc.domain.policy import Binding, LicenseField, Period, Policy, Term
from licensesvc.domain.product import DeliveryKind, Product
from licensesvc.services.catalog.manage_catalog import CreatePolicy, CreateProduct, create_policy, create_product
from licensesvc.services.runtime import Runtime
from licensesvc.storage import catalog, connections
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OWNER, READER
from licensesvc.web.admin.answers import IdempotencyKey, Name, OurId, PublicId, perform
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """The conditions of licenses; `seats` null = the order's amount."""

    id: str
    name: str
    term: Term
    period: Period | None
    grace_days: int
    freeze_days: int
    seats: int | None
    binding: Binding
    lease_seconds: int | None
    offline_days: int
    entitlements: tuple[str, ...]
    license_field: LicenseField


class ProductView(msgspec.Struct, frozen=True, kw_only=True):
    """A product; `connection` and `policy` are our ids, an empty `sku_code` maps every SKU."""

    id: str
    connection: str
    policy: str
    name: str
    marketplace_product_id: str
    sku_code: str
    delivery_kind: DeliveryKind
    code_prefix: str


def _policy_view(policy: Policy) -> PolicyView:
    fields = {name: getattr(policy, name) for name in PolicyView.__struct_fields__ if name != "id"}
    return PolicyView(id=policy.public_id, **fields)


async def _product_views(tx: Tx, products: Sequence[Product]) -> list[ProductView]:
    connection_ids = await connections.public_ids(tx, {product.connection_id for product in products})
    policy_ids = await catalog.policy_public_ids(tx, {product.policy_id for product in products})
    return [
        ProductView(
            id=product.public_id,
            connection=connection_ids[product.connection_id],
            policy=policy_ids[product.policy_id],
            name=product.name,
            marketplace_product_id=product.marketplace_product_id,
            sku_code=product.sku_code,
            delivery_kind=product.delivery_kind,
            code_prefix=product.code_prefix,
        )
        for product in products
    ]


@post(
    "/policies",
    opt=OWNER,
    operation_id="createPolicy",
    responses=problems(*JSON_BODY, "INVALID_PARAMETER", "ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED"),
)
async def add_policy(
    request: JSONRequest,
    data: JSONBody[CreatePolicy],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[PolicyView]:
    """Add a policy."""

    async def verb(tx: Tx) -> PolicyView:
        return _policy_view(await create_policy(tx, runtime, data, by=request.user.name))

    return await perform(request, runtime, idempotency_key, verb)


@get("/policies", opt=READER, operation_id="listPolicies", responses=problems("INVALID_CURSOR"))
async def list_policies(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    name: Name = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[PolicyView]]:
    """List policies, the oldest first."""
    where = EVERYTHING.given("p.name = {}", name)

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, PolicyView]]:
        policies = await catalog.policy_page(tx, after=after, limit=count, where=where)
        return [(policy.id, _policy_view(policy)) for policy in policies]

    return await page_of(request, runtime.db, "policies", cursor=cursor, limit=limit, fetch=fetch)


@get("/policies/{policy_id:str}", opt=READER, operation_id="getPolicy", responses=problems("NOT_FOUND"))
async def get_policy(policy_id: PublicId, runtime: NamedDependency[Runtime]) -> PolicyView:
    """Return a policy."""
    policy = await runtime.db.read(lambda tx: catalog.policy_by_public_id(tx, policy_id))
    if policy is None:
        raise NotFound
    return _policy_view(policy)


@post(
    "/products",
    opt=OWNER,
    operation_id="createProduct",
    responses=problems(*JSON_BODY, "INVALID_PARAMETER", "ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED"),
)
async def add_product(
    request: JSONRequest,
    data: JSONBody[CreateProduct],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[ProductView]:
    """Add a product, which maps what the marketplace sells to a policy."""

    async def verb(tx: Tx) -> ProductView:
        product = await create_product(tx, runtime, data, by=request.user.name)
        return (await _product_views(tx, [product]))[0]

    return await perform(request, runtime, idempotency_key, verb)


@get("/products", opt=READER, operation_id="listProducts", responses=problems("INVALID_CURSOR"))
async def list_products(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    connection: OurId = None,
    policy: OurId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[ProductView]]:
    """List products, the oldest first."""
    where = EVERYTHING.given("p.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection).given(
        "p.policy_id = (SELECT id FROM policies WHERE public_id = {})", policy
    )

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, ProductView]]:
        products = await catalog.product_page(tx, after=after, limit=count, where=where)
        return list(zip([product.id for product in products], await _product_views(tx, products), strict=True))

    return await page_of(request, runtime.db, "products", cursor=cursor, limit=limit, fetch=fetch)


@get("/products/{product_id:str}", opt=READER, operation_id="getProduct", responses=problems("NOT_FOUND"))
async def get_product(product_id: PublicId, runtime: NamedDependency[Runtime]) -> ProductView:
    """Return a product."""

    async def view(tx: Tx) -> ProductView:
        product = await catalog.product_by_public_id(tx, product_id)
        if product is None:
            raise NotFound
        return (await _product_views(tx, [product]))[0]

    return await runtime.db.read(view)


ROUTES: Final = (add_policy, list_policies, get_policy, add_product, list_products, get_product)
