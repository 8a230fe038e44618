"""Imports and exports over the admin API: streamed bodies, harmless cells, nothing that does not belong there."""

import csv
import io

import pytest

from licensesvc.services.imports.csvfiles import BOM
from licensesvc.services.imports.import_rows import MAX_BYTES
from licensesvc.web.admin import exports
from tests.support_web import Site, make_catalog, make_order

CSV = {"content-type": "text/csv; charset=utf-8"}
HEAD = "order_id,marketplace_product_id"


async def bring(site: Site, catalog, content, *, headers=CSV, **parameters):
    query = {"connection": catalog["connection"], "dry_run": "false", **parameters}
    return await site.operator.post("/admin/v1/imports", params=query, content=content, headers=headers)


async def table(site: Site, kind: str) -> list[dict[str, str]]:
    answer = await site.reader.get(f"/admin/v1/exports/{kind}")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="{kind}-2026-11-18.csv"'
    assert answer.text.startswith(BOM)
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix(BOM))))


async def test_an_import_reports_and_the_same_file_again_changes_nothing(site: Site):
    catalog = await make_catalog(site)
    content = f"{HEAD},amount\nCS1,OFFI100,2\nCS2,NOBODY,1\n".encode()
    tried = await bring(site, catalog, content, dry_run="true")
    rows = await site.rows()

    first = await bring(site, catalog, content)
    second = await bring(site, catalog, content)

    assert tried.json() == {**first.json(), "written": False}
    assert rows["orders"] == 0
    assert (first.status_code, first.json()["created"], first.json()["bad"]) == (200, 1, 1)
    assert first.json()["bad_rows"][0]["line"] == 3
    assert (second.json()["created"], second.json()["known"]) == (0, 1)


async def test_a_body_in_many_pieces_is_one_file(site: Site):
    catalog = await make_catalog(site)
    content = f"{HEAD},customer_id,customer_name\nCS1,OFFI100,c-1,华为\n".encode("gb18030")

    async def pieces():
        for place in range(len(content)):
            yield content[place : place + 1]

    assert (await bring(site, catalog, pieces())).json()["created"] == 1


@pytest.mark.parametrize(
    ("headers", "parameters", "content", "status"),
    [
        ({"content-type": "application/json"}, {}, b"{}", 415),
        ({"content-type": ""}, {}, b"", 415),
        (CSV, {"connection": "con_" + "0" * 26}, f"{HEAD}\n", 422),
        (CSV, {"connection": "lic_" + "0" * 26}, f"{HEAD}\n", 400),
        (CSV, {"dry_run": "perhaps"}, f"{HEAD}\n", 400),
        (CSV, {"all_or_nothing": "2"}, f"{HEAD}\n", 400),
        (CSV, {}, b"", 422),
        (CSV, {}, b"\xff\xfe", 422),
        (CSV, {}, b"\x00" * 1000, 422),
        (CSV, {}, b"order_id\n" * 3, 422),
    ],
)
async def test_what_is_no_import_is_refused(site: Site, headers, parameters, content, status: int):
    catalog = await make_catalog(site)
    rows = await site.rows()

    answer = await bring(site, catalog, content, headers=headers, **parameters)

    assert answer.status_code == status, answer.text
    assert await site.rows() == rows


async def test_a_file_that_is_too_large_is_refused_announced_or_not(site: Site):
    catalog = await make_catalog(site)

    async def endless():
        for _ in range(MAX_BYTES // 65_536 + 2):
            yield b"x" * 65_536

    answer = await bring(site, catalog, endless())
    announced = await bring(site, catalog, b"", headers={**CSV, "content-length": str(MAX_BYTES + 1)})

    assert (answer.status_code, answer.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert announced.status_code == 413


async def test_exports_show_every_record_over_several_pages(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exports, "PAGE", 2)
    catalog = await make_catalog(site)
    for number in range(5):
        await make_order(site, catalog, f"CS{number}", amount=number + 1)

    for kind in ("licenses", "orders", "cases"):
        shown = await table(site, kind)
        assert [row["order_id"] for row in shown] == [f"CS{number}" for number in range(5)]
    listed = (await site.reader.get("/admin/v1/licenses")).json()["items"]
    exported = await table(site, "licenses")
    assert [row["id"] for row in exported] == [item["id"] for item in listed]
    assert set(exported[0]) == set(listed[0])
    assert exported[0]["suspended_at"] == ""


async def test_an_empty_list_is_a_header(site: Site):
    for kind in ("licenses", "orders", "cases"):
        assert await table(site, kind) == []


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-2", "@SUM(A1)", "=cmd|'/c-calc'!A0"])
async def test_no_exported_cell_is_a_formula_and_what_was_defused_is_imported_as_it_was(site: Site, formula: str):
    catalog = await make_catalog(site)
    await make_order(site, catalog, formula)

    for kind in ("licenses", "orders", "cases"):
        answer = await site.reader.get(f"/admin/v1/exports/{kind}")
        for row in csv.reader(io.StringIO(answer.text.removeprefix(BOM))):
            assert not any(cell[:1] in {"=", "+", "-", "@", "\t", "\r"} for cell in row)
        assert [row["order_id"] for row in await table(site, kind)] == [f"'{formula}"]

    again = await bring(site, catalog, f"{HEAD}\n'{formula},OFFI100\n".encode())
    assert (again.json()["created"], again.json()["known"]) == (0, 1)


async def test_exports_hold_no_codes_and_no_personal_data(site: Site):
    catalog = await make_catalog(site)
    body = {
        "connection": catalog["connection"],
        "order_id": "CS1",
        "buyer": {"customer_id": "cust-canary", "name": "name-canary", "email": "canary@example.com"},
        "lines": [{"product": catalog["product"]}],
    }
    order = (await site.operator.post("/admin/v1/orders", json=body)).json()
    code = (await site.operator.get(f"/admin/v1/licenses/{order['lines'][0]['license']}/code")).json()["code"]

    for kind in ("licenses", "orders", "cases"):
        answer = await site.reader.get(f"/admin/v1/exports/{kind}")
        assert "canary" not in answer.text
        assert code not in answer.text
    assert (await table(site, "orders"))[0]["buyer"] == order["buyer"]
