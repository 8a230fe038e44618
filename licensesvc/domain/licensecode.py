"""License codes: `LS-XXXXX-XXXXX-XXXXX-XXXXX-XXXXX`, 120 random bits and a check symbol behind a searchable prefix.

In: making them, reading them forgivingly, showing them safely. Out: the codes of the marketplace (`PL…`), which are matched
exactly as received.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain import crockford
from licensesvc.domain.product import valid_code_prefix

MAX_LENGTH: Final = 64
"""Characters of any code on the wire, ours or not (spec §5.1)."""
BITS: Final = 120
"""Random bits of a code; drawing unfit ones again costs a fifth of a bit."""
MAX_DRAWS: Final = 100
"""A sound source of randomness fails so often once in 10^86 codes."""

_RANDOM_SYMBOLS: Final = BITS // 5
_GROUP: Final = 5
_MODULUS: Final = 37
"""A prime above 32: one wrong symbol and any two swapped ones change the remainder."""
_MARKETPLACE_PREFIX: Final = "PL"

# Only ASCII letters change case: Unicode folds strangers such as the long s into them.
_TIDY: Final = {
    **str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    **dict.fromkeys(map(ord, "-\u2010\u2011\u2012\u2013\u2014\u2212 \t\r\n\u00a0\u3000")),
}
_LOOK_ALIKES: Final = str.maketrans("OIL", "011")
_FORM: Final = re.compile(rf"([A-Z][A-Z0-9]{{1,7}})([{crockford.SYMBOLS}OIL]{{{_RANDOM_SYMBOLS + 1}}})")


_CANONICAL: Final = re.compile(
    rf"(?!{_MARKETPLACE_PREFIX})[A-Z][A-Z0-9]{{1,7}}(?:-[{crockford.SYMBOLS}]{{{_GROUP}}}){{{(_RANDOM_SYMBOLS + 1) // _GROUP}}}"
)
"""A code as we write it, rightly typed or not: nothing is left to forgive."""


class CodeKind(StrEnum):
    """Whose a code is, by its form alone."""

    OWN = "OWN"
    MISTYPED = "MISTYPED"
    """The form of ours, but the check symbol is wrong."""
    MARKETPLACE = "MARKETPLACE"
    FOREIGN = "FOREIGN"


class CodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a code says about itself; `prefix` is None where it has not the form of ours."""

    kind: CodeKind
    canonical: str
    prefix: str | None


def generate(prefix: str, entropy: Callable[[int], bytes]) -> str:
    """Return a new code; `entropy(n)` gives n bytes of a cryptographic source."""
    if not valid_code_prefix(prefix):
        raise ValueError(f"{prefix!r} is no code prefix")
    for _ in range(MAX_DRAWS):
        value = int.from_bytes(entropy(BITS // 8))
        check = value % _MODULUS
        if check < len(crockford.SYMBOLS):
            return _grouped(prefix, crockford.encode(value, _RANDOM_SYMBOLS) + crockford.SYMBOLS[check])
    raise RuntimeError("the source of randomness is broken")


def inspect(text: str) -> CodeFacts:
    """Say what can be known of a code without looking it up."""
    tidy = text.translate(_TIDY)
    if tidy.startswith(_MARKETPLACE_PREFIX):
        return CodeFacts(kind=CodeKind.MARKETPLACE, canonical=text, prefix=None)
    form = _FORM.fullmatch(tidy)
    if form is None:
        return CodeFacts(kind=CodeKind.FOREIGN, canonical=text, prefix=None)
    prefix, symbols = form[1], form[2].translate(_LOOK_ALIKES)
    value, check = divmod(crockford.decode(symbols), len(crockford.SYMBOLS))
    if value % _MODULUS != check:
        return CodeFacts(kind=CodeKind.MISTYPED, canonical=text, prefix=prefix)
    return CodeFacts(kind=CodeKind.OWN, canonical=_grouped(prefix, symbols), prefix=prefix)


def canonical(text: str) -> str:
    """Return the form under which a code is looked up.

    Ours are forgiven case, dashes, blanks, O for 0 and I or L for 1; everything else is returned exactly as received.
    """
    return text if _CANONICAL.fullmatch(text) else inspect(text).canonical


def is_own(text: str) -> bool:
    """Whether `text` is a code of ours, rightly typed."""
    return inspect(text).kind is CodeKind.OWN


def hint(code: str) -> str:
    """Return what lists show of a code, e.g. `LS…7K3M`: enough to recognize it, too little to use it."""
    facts = inspect(code)
    if facts.kind is CodeKind.OWN and facts.prefix:
        return f"{facts.prefix}…{facts.canonical[-4:]}"
    return f"{code[:2]}…{code[-4:]}" if len(code) >= _RANDOM_SYMBOLS else f"{code[:2]}…"


def _grouped(prefix: str, symbols: str) -> str:
    groups = [symbols[start : start + _GROUP] for start in range(0, len(symbols), _GROUP)]
    return "-".join([prefix, *groups])
