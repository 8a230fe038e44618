"""What the sandbox remembers across restarts: its secrets, the seller's address, the orders placed and the codes made for them.

In: one private file, rewritten as a whole on every change. Out: transcripts of calls, which last as long as the process.
While a sandbox runs, only its own process writes; others open the file for the secrets.
"""

import os
import secrets
import string
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Self

import msgspec

from licensesvc.sandbox.codes import Code
from licensesvc.sandbox.orders import PlacedOrder

FILE_NAME: Final = "sandbox.json"
MAX_ORDERS: Final = 10_000
"""Beyond that the oldest order, or code, is forgotten."""
MAX_PROBED: Final = 100
"""Products with saved debug cases."""
VERSION: Final = 2
"""Of the file: 1, which is not written in it, had orders only. What it lacks is empty."""

_OTHERS: Final = 0o077
_KEY_SYMBOLS: Final = string.ascii_uppercase + string.digits


class StateError(Exception):
    """The sandbox's file cannot be used; one line that says why."""


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    version: Annotated[int, msgspec.Meta(ge=1, le=VERSION)] = 1
    seller_callback_url: str | None = None
    callback_key: str
    api_access_key: str
    api_secret: str
    orders: list[PlacedOrder] = []
    codes: list[Code] = []
    debug_cases: dict[str, list[str]] = {}

    def __repr__(self) -> str:
        return f"_File(orders={len(self.orders)})"


def sandbox_file(data_dir: Path) -> Path:
    """Where the sandbox keeps its state in a data directory."""
    return data_dir / FILE_NAME


class State:
    """The sandbox's memory.

    `callback_key` signs its calls to the seller, `api_access_key` and `api_secret` are the AK/SK with which the seller
    calls it: three secrets of the seller's connection to this sandbox.
    """

    def __init__(self, path: Path, content: _File) -> None:
        self._path = path
        self._content = content
        self._orders = {order.order_id: order for order in content.orders}
        self._codes = {code.code: code for code in content.codes}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the file, or make it (0600) with fresh secrets when there is none.

        Raises `StateError` for a file that is damaged or that others may read.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                _create(path)
            if path.stat().st_mode & _OTHERS:
                raise StateError(f"{path}: others may read the sandbox's secrets; chmod 600 it")
            return cls(path, msgspec.json.decode(path.read_bytes(), type=_File))
        except (OSError, msgspec.DecodeError) as error:
            raise StateError(f"{path}: {error}") from None

    @property
    def callback_key(self) -> str:
        """The access key of calls to the seller (spec §4)."""
        return self._content.callback_key

    @property
    def api_access_key(self) -> str:
        """The AK of calls to the open API (spec §3)."""
        return self._content.api_access_key

    @property
    def api_secret(self) -> str:
        """The SK of calls to the open API (spec §3)."""
        return self._content.api_secret

    @property
    def seller_callback_url(self) -> str | None:
        """The seller's production URL, once somebody has told it."""
        return self._content.seller_callback_url

    @property
    def orders(self) -> Mapping[str, PlacedOrder]:
        """Placed orders by id, oldest first."""
        return MappingProxyType(self._orders)

    @property
    def codes(self) -> Mapping[str, Code]:
        """License codes that the sandbox has made, by themselves, oldest first."""
        return MappingProxyType(self._codes)

    def code_of(self, order_id: str) -> Code | None:
        """The code of a purchase."""
        return next((code for code in self._codes.values() if code.order_id == order_id), None)

    @property
    def debug_cases(self) -> Mapping[str, frozenset[str]]:
        """Dialects whose debug cases are saved, by product."""
        return {product: frozenset(dialects) for product, dialects in self._content.debug_cases.items()}

    def save_debug_cases(self, product_id: str, dialect: str) -> None:
        """Remember that a product's debug cases of a dialect are replayed. Raises `StateError` where there are too many products."""
        saved = self._content.debug_cases
        if product_id not in saved and len(saved) >= MAX_PROBED:
            raise StateError(f"debug cases of {MAX_PROBED} products are saved already")
        saved[product_id] = sorted({*saved.get(product_id, ()), dialect})
        self._save()

    def set_seller(self, callback_url: str) -> None:
        """Remember the seller's production URL."""
        self._content.seller_callback_url = callback_url
        self._save()

    def put(self, *orders: PlacedOrder, codes: Iterable[Code] = ()) -> None:
        """Remember new orders and codes, or what became of known ones: all or none. Nothing is written when nothing has changed."""
        new_orders = {order.order_id: order for order in orders if self._orders.get(order.order_id) != order}
        new_codes = {code.code: code for code in codes if self._codes.get(code.code) != code}
        if not new_orders and not new_codes:
            return
        self._orders.update(new_orders)
        self._codes.update(new_codes)
        _forget_oldest(self._orders)
        _forget_oldest(self._codes)
        self._save()

    def _save(self) -> None:
        self._content.version = VERSION
        self._content.orders = list(self._orders.values())
        self._content.codes = list(self._codes.values())
        with _beside(self._path, self._content) as temporary:
            temporary.replace(self._path)


def _create(path: Path) -> None:
    fresh = _File(
        version=VERSION, callback_key=secrets.token_hex(16), api_access_key=_key_text(20), api_secret=_key_text(40)
    )
    # A link instead of a rename: of two processes that start at once, both go on with the first one's secrets.
    with _beside(path, fresh) as temporary, suppress(FileExistsError):
        path.hardlink_to(temporary)


@contextmanager
def _beside(path: Path, content: _File) -> Iterator[Path]:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - it is a descriptor, not a path
            file.write(msgspec.json.encode(content))
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _forget_oldest(records: dict[str, Any]) -> None:
    while len(records) > MAX_ORDERS:
        del records[next(iter(records))]


def _key_text(length: int) -> str:
    return "".join(secrets.choice(_KEY_SYMBOLS) for _ in range(length))
