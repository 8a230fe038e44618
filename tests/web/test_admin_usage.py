"""What the seller is told of the use of a license and of a product."""

import pytest

from licensesvc.domain import usage as rules
from licensesvc.domain.usage import DayUse, day_of, parse_date
from licensesvc.storage import usage
from tests.support_web import make_catalog, make_order

TODAY = "2026-11-18"
"""At the start of the clock, in Shanghai."""


@pytest.fixture
async def sold(site):
    """Ids of the product and of its two licenses."""
    catalog = await make_catalog(site)
    licenses = [(await make_order(site, catalog, f"CS{n}"))["lines"][0]["license"] for n in (1, 2)]
    return catalog["product"], *licenses


async def count(site, license_id, day, clients=(), active_num=None):
    use = DayUse(license_id=license_id, day=parse_date(day), clients=frozenset(clients), active_num=active_num)
    await site.rt.db.write(lambda tx: usage.add(tx, [use]))


async def ask(site, path, **query):
    return await site.reader.get(f"/admin/v1/{path}/usage", params=query)


async def test_the_days_of_a_license_are_told_in_its_calendar(site, sold):
    _, license_id, other = sold
    await count(site, 1, TODAY, "abc", 7)
    await count(site, 1, "2026-11-16", (), 5)
    await count(site, 1, "2026-10-19", "a")  # one day before the default's first
    await count(site, 2, TODAY, "z")

    answer = await ask(site, f"licenses/{license_id}")

    assert answer.status_code == 200
    assert answer.json() == {
        "zone": "Asia/Shanghai",
        "days": [
            {"day": "2026-11-16", "clients": 0, "capped": False, "active_num": 5},
            {"day": TODAY, "clients": 3, "capped": False, "active_num": 7},
        ],
    }
    assert len((await ask(site, f"licenses/{other}")).json()["days"]) == 1
    earlier = (await ask(site, f"licenses/{license_id}", **{"from": "2026-10-01", "to": "2026-11-16"})).json()
    assert [day["day"] for day in earlier["days"]] == ["2026-10-19", "2026-11-16"]


async def test_a_day_that_counts_no_more_says_so(site, sold, monkeypatch):
    monkeypatch.setattr(rules, "MAX_CLIENTS_A_DAY", 2)
    monkeypatch.setattr("licensesvc.web.admin.usage.MAX_CLIENTS_A_DAY", 2)
    await count(site, 1, TODAY, "abc")

    [day] = (await ask(site, f"licenses/{sold[1]}")).json()["days"]

    assert (day["clients"], day["capped"]) == (2, True)


async def test_the_days_of_a_product_are_sums(site, sold):
    await count(site, 1, TODAY, "ab", 7)
    await count(site, 2, TODAY, "a")
    await count(site, 2, "2026-11-17", "a")

    answer = await ask(site, f"products/{sold[0]}")

    assert answer.json() == {
        "zone": "Asia/Shanghai",
        "days": [
            {"day": "2026-11-17", "licenses": 1, "clients": 1, "active_num": None},
            {"day": TODAY, "licenses": 2, "clients": 3, "active_num": 7},
        ],
    }


DAYS = [
    ({"from": "2026-11-18", "to": "2026-11-18"}, 200),
    ({"to": "0001-01-01"}, 200),
    ({"to": "9999-12-31"}, 200),
    ({"from": "2026-11-18", "to": "2026-11-17"}, 422),
    ({"from": "2026-02-30"}, 422),
    ({"from": "0000-01-01"}, 422),
    ({"from": "2026-11-1"}, 400),
    ({"from": "20261118"}, 400),
    ({"from": "2026-11-18\n"}, 400),
    ({"to": "٢٠٢٦-11-18"}, 400),
    ({"to": ""}, 400),
]


async def test_days_that_are_none_are_refused(site, sold):
    for path in (f"licenses/{sold[1]}", f"products/{sold[0]}"):
        for query, status in DAYS:
            assert (await ask(site, path, **query)).status_code == status, (path, query)


async def test_ranges_are_bounded(site, sold):
    product, license_id, _ = sold

    async def status(path, first):
        return (await ask(site, path, **{"from": first, "to": "2026-11-18"})).status_code

    assert await status(f"licenses/{license_id}", "2025-10-15") == 200  # 400 days
    assert await status(f"licenses/{license_id}", "2025-10-14") == 422
    assert await status(f"products/{product}", "2026-10-19") == 200  # 31 days
    assert await status(f"products/{product}", "2026-10-18") == 422


async def test_who_is_not_there_is_not_found(site):
    for path in ("licenses/lic_" + "0" * 26, "products/prd_" + "0" * 26):
        assert (await ask(site, path)).status_code == 404


def test_the_clock_starts_on_that_day():
    from zoneinfo import ZoneInfo

    from tests.support_web import START

    assert day_of(START, ZoneInfo("Asia/Shanghai")) == parse_date(TODAY)
