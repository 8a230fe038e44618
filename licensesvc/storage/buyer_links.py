"""Rows of `buyer_links`: by which link a buyer sees which case, until when."""

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx

_LINK = "id, public_id, case_id, token_hash, created_at, created_by, expires_at, revoked_at, sealed_token, mailed_at"


class BuyerLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link to one case: only the SHA-256 of its token is kept, and the token itself, sealed, while a mail with it waits."""

    id: int = 0
    public_id: str
    case_id: int
    token_hash: bytes
    created_at: Instant
    created_by: str
    expires_at: Instant
    revoked_at: Instant | None = None
    sealed_token: bytes | None = None
    mailed_at: Instant | None = None

    def __repr__(self) -> str:
        return f"BuyerLink({self.public_id})"

    def live(self, now: Instant) -> bool:
        """Whether it opens the page at `now`."""
        return self.revoked_at is None and now < self.expires_at


async def insert(tx: Tx, link: BuyerLink) -> None:
    """Add a link; its `id` field is ignored."""
    await tx.run(
        "INSERT INTO buyer_links (public_id, case_id, token_hash, created_at, created_by, expires_at, sealed_token)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)",
        link.public_id,
        link.case_id,
        link.token_hash,
        link.created_at,
        link.created_by,
        link.expires_at,
        link.sealed_token,
    )


async def by_hash(tx: Tx, token_hash: bytes) -> BuyerLink | None:
    """Find a link by the hash of its token, also one that opens nothing any more."""
    row = await tx.one(f"SELECT {_LINK} FROM buyer_links WHERE token_hash = $1", token_hash)
    return _link(row) if row else None


async def of_case(tx: Tx, case_id: int) -> list[BuyerLink]:
    """Every link of a case, the oldest first."""
    rows = await tx.all(f"SELECT {_LINK} FROM buyer_links WHERE case_id = $1 ORDER BY id", case_id)
    return [_link(row) for row in rows]


async def by_public_id(tx: Tx, public_id: str) -> BuyerLink | None:
    """Find a link by our id."""
    row = await tx.one(f"SELECT {_LINK} FROM buyer_links WHERE public_id = $1", public_id)
    return _link(row) if row else None


async def known(tx: Tx, public_id: str) -> bool:
    """Whether there is a link with this id."""
    return await tx.one("SELECT 1 AS known FROM buyer_links WHERE public_id = $1", public_id) is not None


async def revoke(tx: Tx, public_id: str, now: Instant) -> int | None:
    """Revoke a link; return the internal id of its case. None = there is none, or it is revoked."""
    row = await tx.one(
        "UPDATE buyer_links SET revoked_at = $2, sealed_token = NULL WHERE public_id = $1 AND revoked_at IS NULL"
        " RETURNING case_id",
        public_id,
        now,
    )
    return row["case_id"] if row else None


async def mailed(tx: Tx, public_id: str, now: Instant) -> int | None:
    """Forget the token of a link that was sent; return the internal id of its case. None = it waits no more."""
    row = await tx.one(
        "UPDATE buyer_links SET mailed_at = $2, sealed_token = NULL WHERE public_id = $1 AND sealed_token IS NOT NULL"
        " RETURNING case_id",
        public_id,
        now,
    )
    return row["case_id"] if row else None


def _link(row: Row) -> BuyerLink:
    return BuyerLink(
        id=row["id"],
        public_id=row["public_id"],
        case_id=row["case_id"],
        token_hash=bytes(row["token_hash"]),
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        sealed_token=None if row["sealed_token"] is None else bytes(row["sealed_token"]),
        mailed_at=row["mailed_at"],
    )
