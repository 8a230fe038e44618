"""Public ids: form, order, uniqueness of what they encode."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain import crockford, ids
from licensesvc.domain.ids import ENTROPY_BYTES, new_id
from licensesvc.domain.instants import LAST_INSTANT

PREFIXES = [value for name, value in vars(ids).items() if name.isupper() and isinstance(value, str)]
ENTROPY = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)
INSTANTS = st.integers(0, LAST_INSTANT)


def test_prefixes_are_distinct():
    assert len(set(PREFIXES)) == len(PREFIXES) > 20


def test_the_time_part_is_that_of_the_ulid_specification():
    assert new_id("lic", 1_469_918_176_385, bytes(10)) == "lic_01aryz6s41" + "0" * 16


@given(st.sampled_from(PREFIXES), INSTANTS, ENTROPY)
def test_form_and_content(prefix, now, entropy):
    public_id = new_id(prefix, now, entropy)
    assert re.fullmatch(rf"{prefix}_[0-9a-hjkmnp-tv-z]{{26}}", public_id)
    assert crockford.decode(public_id.rpartition("_")[2].upper()) == now << 80 | int.from_bytes(entropy)


@given(INSTANTS, INSTANTS, ENTROPY, ENTROPY)
def test_ids_sort_by_time(earlier, later, one, other):
    if earlier < later:
        assert new_id("lic", earlier, one) < new_id("lic", later, other)


@pytest.mark.parametrize("size", [0, ENTROPY_BYTES - 1, ENTROPY_BYTES + 1])
def test_entropy_of_another_size_is_refused(size):
    with pytest.raises(ValueError, match="entropy"):
        new_id("lic", 0, bytes(size))
