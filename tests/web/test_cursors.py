"""Pages: every record once, in order, whatever the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.web.cursors import decode_cursor, encode_cursor
from licensesvc.web.problems import Refusal
from tests.support_web import Site, created

IDS = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@given(place=IDS, kind=st.text(max_size=10))
def test_a_cursor_leads_back_to_its_place(place: int, kind: str):
    assert decode_cursor(kind, encode_cursor(kind, place)) == place


@given(place=IDS)
def test_a_cursor_is_plain_text_of_one_length(place: int):
    cursor = encode_cursor("policies", place)

    assert (len(cursor), cursor.isascii(), cursor.replace("-", "").replace("_", "").isalnum()) == (16, True, True)


@given(text=st.text(max_size=40))
def test_nonsense_is_no_cursor(text: str):
    with pytest.raises(Refusal):
        decode_cursor("policies", text)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 200])
async def test_following_the_links_shows_every_record_once(site: Site, limit: int):
    names = [f"policy {number}" for number in range(5)]
    for name in names:
        await created(site, "policies", {"name": name, "term": "PERPETUAL"})

    seen: list[str] = []
    path = f"/admin/v1/policies?limit={limit}&ignored=a%26b"
    while path:
        response = await site.reader.get(path)
        page = response.json()
        seen += [item["name"] for item in page["items"]]
        assert len(page["items"]) <= limit
        assert (page["next_cursor"] is None) is ("link" not in response.headers)
        path = response.links["next"]["url"] if "link" in response.headers else ""

    assert seen == names
