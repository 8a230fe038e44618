"""Public ids: `lic_01jd…`, a prefix that names the kind of record and a lower-case ULID.

In: how ids are made and the prefixes. Out: internal keys, which the database counts.
"""

from typing import Final

from licensesvc.domain.crockford import encode
from licensesvc.domain.instants import Instant

CONNECTION: Final = "con"
PRODUCT: Final = "prd"
POLICY: Final = "pol"
ORDER: Final = "ord"
LINE: Final = "lin"
LICENSE: Final = "lic"
ACTIVATION: Final = "act"
CASE: Final = "case"
PROOF: Final = "prf"
CREDENTIAL: Final = "crd"
TOKEN: Final = "tok"  # noqa: S105  -- a prefix, no secret
MESSAGE: Final = "msg"
BUYER: Final = "buy"
FINDING: Final = "fnd"
ALERT: Final = "alr"
ALERT_CHANNEL: Final = "chn"
TRANSACTION: Final = "trn"
AGREEMENT: Final = "agr"
WEBHOOK_ENDPOINT: Final = "whe"
WEBHOOK_SECRET: Final = "whk"  # noqa: S105  -- a prefix, no secret
DELIVERY: Final = "dlv"
BUYER_LINK: Final = "lnk"

ENTROPY_BYTES: Final = 10
ULID_LENGTH: Final = 26


def new_id(prefix: str, now: Instant, entropy: bytes) -> str:
    """Return `<prefix>_<ulid>`: 48 bits of time, then `ENTROPY_BYTES` random bytes; sorts by time within a prefix."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"an id takes {ENTROPY_BYTES} bytes of entropy")
    ulid = encode(now << 8 * ENTROPY_BYTES | int.from_bytes(entropy), ULID_LENGTH)
    return f"{prefix}_{ulid.lower()}"
