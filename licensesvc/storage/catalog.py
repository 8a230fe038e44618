"""Rows of `policies` and `products`: what is sold and on which terms."""

from collections.abc import Collection

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.policy import Policy
from licensesvc.domain.product import DeliveryKind, Product
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_PRODUCT = "id, public_id, connection_id, policy_id, name, marketplace_product_id, sku_code, delivery_kind, code_prefix"


def _policy(row: Row) -> Policy:
    policy = msgspec.json.decode(row["terms"], type=Policy)
    return msgspec.structs.replace(policy, id=row["id"])


def _product(row: Row) -> Product:
    return Product(
        id=row["id"],
        public_id=row["public_id"],
        connection_id=row["connection_id"],
        policy_id=row["policy_id"],
        name=row["name"],
        marketplace_product_id=row["marketplace_product_id"],
        sku_code=row["sku_code"],
        delivery_kind=DeliveryKind(row["delivery_kind"]),
        code_prefix=row["code_prefix"],
    )


async def insert_policy(tx: Tx, policy: Policy, *, now: Instant) -> int:
    """Add a policy; its `id` field is ignored, the new internal id is returned."""
    row = await tx.one(
        "INSERT INTO policies (public_id, name, terms, created_at) VALUES ($1, $2, $3, $4) RETURNING id",
        policy.public_id,
        policy.name,
        msgspec.json.encode(policy).decode(),
        now,
    )
    assert row is not None
    return int(row["id"])


async def policy_by_public_id(tx: Tx, public_id: str) -> Policy | None:
    """Find a policy by its public id."""
    row = await tx.one("SELECT id, terms FROM policies WHERE public_id = $1", public_id)
    return _policy(row) if row else None


async def policy_by_id(tx: Tx, policy_id: int) -> Policy:
    """Load a policy that a foreign key promises."""
    row = await tx.one("SELECT id, terms FROM policies WHERE id = $1", policy_id)
    assert row is not None
    return _policy(row)


async def policy_public_ids(tx: Tx, policy_ids: Collection[int]) -> dict[int, str]:
    """The public ids of these policies, by internal id."""
    rows = await tx.all("SELECT id, public_id FROM policies WHERE id IN @ints($1)", sorted(policy_ids))
    return {row["id"]: row["public_id"] for row in rows}


async def policy_page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[Policy]:
    """Up to `limit` policies with an internal id above `after`, ascending; conditions name `p`."""
    rows = await tx.all(
        f"SELECT id, terms FROM policies p WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_policy(row) for row in rows]


async def insert_product(tx: Tx, product: Product, *, now: Instant) -> int:
    """Add a product; its `id` field is ignored, the new internal id is returned."""
    row = await tx.one(
        "INSERT INTO products (public_id, connection_id, policy_id, name, marketplace_product_id, sku_code,"
        " delivery_kind, code_prefix, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id",
        product.public_id,
        product.connection_id,
        product.policy_id,
        product.name,
        product.marketplace_product_id,
        product.sku_code,
        product.delivery_kind.value,
        product.code_prefix,
        now,
    )
    assert row is not None
    return int(row["id"])


async def product_by_public_id(tx: Tx, public_id: str) -> Product | None:
    """Find a product by its public id."""
    row = await tx.one(f"SELECT {_PRODUCT} FROM products WHERE public_id = $1", public_id)
    return _product(row) if row else None


async def product_by_id(tx: Tx, product_id: int) -> Product:
    """Load a product that a foreign key promises."""
    row = await tx.one(f"SELECT {_PRODUCT} FROM products WHERE id = $1", product_id)
    assert row is not None
    return _product(row)


async def product_public_ids(tx: Tx, product_ids: Collection[int]) -> dict[int, str]:
    """The public ids of these products, by internal id."""
    rows = await tx.all("SELECT id, public_id FROM products WHERE id IN @ints($1)", sorted(product_ids))
    return {row["id"]: row["public_id"] for row in rows}


async def product_for(tx: Tx, connection_id: int, marketplace_product_id: str, sku_code: str) -> Product | None:
    """Map what the marketplace sold: the product with this sku, else the one that takes any sku."""
    row = await tx.one(
        f"SELECT {_PRODUCT} FROM products WHERE connection_id = $1 AND marketplace_product_id = $2"
        " AND sku_code IN ($3, '') ORDER BY sku_code DESC LIMIT 1",
        connection_id,
        marketplace_product_id,
        sku_code,
    )
    return _product(row) if row else None


async def sells(tx: Tx, connection_id: int, marketplace_product_id: str) -> bool:
    """Say whether a product of the connection is mapped to this one of the marketplace, with whatever sku."""
    row = await tx.one(
        "SELECT 1 AS sold FROM products WHERE connection_id = $1 AND marketplace_product_id = $2 LIMIT 1",
        connection_id,
        marketplace_product_id,
    )
    return row is not None


async def products_of_kind(
    tx: Tx, connection_id: int, kind: DeliveryKind, *, mapped_to: str | None, limit: int
) -> list[Product]:
    """Up to `limit` products of a connection that are delivered this way, all or those of one marketplace product; any sku first."""
    rows = await tx.all(
        f"SELECT {_PRODUCT} FROM products WHERE connection_id = $1 AND delivery_kind = $2"
        " AND ($3 = '' OR marketplace_product_id = $3) ORDER BY sku_code, id LIMIT $4",
        connection_id,
        kind.value,
        mapped_to or "",
        limit,
    )
    return [_product(row) for row in rows]


async def product_page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[Product]:
    """Up to `limit` products with an internal id above `after`, ascending; conditions name `p`."""
    rows = await tx.all(
        f"SELECT {_PRODUCT} FROM products p WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_product(row) for row in rows]
