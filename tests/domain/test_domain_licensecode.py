"""License codes: they round trip, forgive what hands do, and notice what they must not forgive."""

import re
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.crockford import SYMBOLS
from licensesvc.domain.licensecode import (
    BITS,
    MAX_DRAWS,
    MAX_LENGTH,
    CodeKind,
    canonical,
    generate,
    hint,
    inspect,
    is_own,
)
from licensesvc.domain.product import valid_code_prefix

PREFIXES = st.from_regex(r"[A-Z][A-Z0-9]{1,7}", fullmatch=True).filter(valid_code_prefix)


def code_of(prefix: str, first_draw: int) -> str:
    """A code of the first fit value from `first_draw` on."""
    draws = count(first_draw)

    def entropy(size: int) -> bytes:
        return (next(draws) % 2**BITS).to_bytes(size)

    return generate(prefix, entropy)


CODES = st.builds(code_of, PREFIXES, st.integers(0, 2**BITS - 1))


def positions(code: str) -> list[int]:
    """Where the 25 symbols behind the prefix stand."""
    return [at for at in range(code.index("-"), len(code)) if code[at] != "-"]


def test_a_known_code():
    assert code_of("LS", 31) == "LS-00000-00000-00000-00000-000ZZ"
    # 32 … 36 leave check values that have no symbol and are drawn again; 37 leaves 0.
    assert code_of("LS", 32) == "LS-00000-00000-00000-00000-00150"


@given(CODES)
def test_form(code):
    assert re.fullmatch(rf"[A-Z][A-Z0-9]{{1,7}}(-[{SYMBOLS}]{{5}}){{5}}", code)
    assert len(code) <= MAX_LENGTH
    assert is_own(code)
    assert canonical(code) == code


@given(CODES, st.data())
def test_case_dashes_blanks_and_look_alikes_are_forgiven(code, data):
    prefix, _, symbols = code.partition("-")
    look_alikes = {"0": "0Oo", "1": "1IiLl"}
    typed = prefix
    for symbol in symbols.replace("-", ""):
        choices = look_alikes.get(symbol, symbol + symbol.lower())
        typed += data.draw(st.sampled_from(["", "-", " ", "–", "\t"])) + data.draw(st.sampled_from(choices))
    typed = data.draw(st.sampled_from([typed, f" {typed}\n", typed.replace(prefix, prefix.lower(), 1)]))
    assert canonical(typed) == code


@given(CODES, st.data())
def test_one_wrong_symbol_is_noticed(code, data):
    at = data.draw(st.sampled_from(positions(code)))
    wrong = data.draw(st.sampled_from(SYMBOLS.replace(code[at], "")))
    typed = code[:at] + wrong + code[at + 1 :]
    assert inspect(typed).kind is CodeKind.MISTYPED
    assert canonical(typed) == typed


@given(CODES, st.data())
def test_two_neighbors_swapped_are_noticed(code, data):
    places = positions(code)
    index = data.draw(st.integers(0, len(places) - 2))
    one, other = places[index], places[index + 1]
    typed = list(code)
    typed[one], typed[other] = typed[other], typed[one]
    assert is_own("".join(typed)) == (code[one] == code[other])


@given(CODES, st.data())
def test_a_missing_or_additional_symbol_is_noticed(code, data):
    at = data.draw(st.sampled_from(positions(code)))
    for typed in (code[:at] + code[at + 1 :], code[:at] + "7" + code[at:]):
        # The prefix takes up the slack, so the text may still have the form of a code of another prefix.
        facts = inspect(typed)
        assert facts.kind is not CodeKind.OWN or facts.prefix != code.partition("-")[0]


@given(st.text(max_size=MAX_LENGTH))
def test_what_is_not_ours_stays_exactly_as_received(text):
    assert is_own(text) or canonical(text) == text


@given(CODES, st.sampled_from(["PL", "pl", " Pl", "p-L"]))
def test_a_code_of_the_marketplace_is_never_touched(code, start):
    text = start + code.replace("-", "")[2:].lower()
    assert inspect(text).kind is CodeKind.MARKETPLACE
    assert canonical(text) == text


@pytest.mark.parametrize(
    ("text", "kind", "prefix"),
    [
        ("LS-00000-00000-00000-00000-000ZZ", CodeKind.OWN, "LS"),
        ("ls00000 00000 00000 ooooo oo0zz", CodeKind.OWN, "LS"),
        ("LS-00000-00000-00000-00000-000ZY", CodeKind.MISTYPED, "LS"),
        ("PLXXXXXX", CodeKind.MARKETPLACE, None),  # §5.1
        ("PL****001", CodeKind.MARKETPLACE, None),
        ("", CodeKind.FOREIGN, None),
        ("LS", CodeKind.FOREIGN, None),
        ("1S-00000-00000-00000-00000-000ZZ", CodeKind.FOREIGN, None),
        ("LS-00000-00000-00000-00000-000Z\u017f", CodeKind.FOREIGN, None),  # the long s is no S
        ("LS-00000-00000-00000-00000-000UU", CodeKind.FOREIGN, None),  # no U in the alphabet
    ],
)
def test_kind(text, kind, prefix):
    facts = inspect(text)
    assert (facts.kind, facts.prefix) == (kind, prefix)


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("LS-00000-00000-00000-00000-00150", "LS…0150"),
        ("ls" + "0" * 22 + "150", "LS…0150"),
        ("PL0123456789ABCDEFGHJKMN", "PL…JKMN"),
        ("PLXXXXXX", "PL…"),  # too short to show its end
        ("", "…"),
    ],
)
def test_hint(code, shown):
    assert hint(code) == shown


@given(CODES)
def test_hint_hides_at_least_a_hundred_bits(code):
    hidden = len(positions(code)) - 1 - len(hint(code).partition("…")[2])
    assert hidden * 5 >= 100


@pytest.mark.parametrize("prefix", ["", "L", "ls", "PL", "PLUS", "1S", "TOOLONGXX", "L-S"])
def test_a_bad_prefix_is_refused(prefix):
    with pytest.raises(ValueError, match="prefix"):
        generate(prefix, bytes)


def test_a_broken_source_of_randomness_ends():
    draws = []
    with pytest.raises(RuntimeError, match="randomness"):
        generate("LS", lambda size: draws.append(size) or (32).to_bytes(size))
    assert draws == [BITS // 8] * MAX_DRAWS


def test_guessing_is_hopeless():
    # Reliability row 11: a year of 1,000 guesses a second against 10^6 live codes.
    fit_codes = 2**BITS * len(SYMBOLS) // 37
    assert fit_codes > 2**115
    assert 365 * 86_400 * 1_000 * 10**6 / fit_codes <= 1e-9


SHAPED = st.from_regex(rf"(P[LM]|[A-Z][A-Z0-9]{{1,7}})(-[{SYMBOLS}OIL]{{5}}){{5}}", fullmatch=True)


@given(SHAPED | SHAPED.map(str.lower) | st.text(max_size=40))
def test_a_code_that_needs_no_forgiving_takes_a_shorter_way_to_the_same_end(text):
    assert canonical(text) == inspect(text).canonical
