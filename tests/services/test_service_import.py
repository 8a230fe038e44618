"""Orders from CSV files, on both engines: good rows, bad rows, the same file again, files that are none."""

import asyncio
import io

import pytest

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import rfc3339
from licensesvc.domain.license import LicenseState
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.imports import import_rows as importing
from licensesvc.services.imports.import_orders import import_orders
from licensesvc.services.licenses.issue_license import code_index, open_code
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import licenses
from tests.support_edges import open_shop, rows

TABLES = ("orders", "order_lines", "licenses", "license_codes", "supervision_cases", "buyers", "audit_events")
HEAD = "order_id,marketplace_product_id"


async def brought(shop, text, *, dry_run=False, all_or_nothing=False, encoding="utf-8"):
    file = io.BytesIO(text if isinstance(text, bytes) else text.encode(encoding))
    return await import_orders(
        shop.rt, file, shop.connection.public_id, by="tok_1", dry_run=dry_run, all_or_nothing=all_or_nothing
    )


def facts(report):
    return (report.created, report.known, report.bad, report.written)


async def test_rows_become_orders_with_licenses_and_the_same_file_again_changes_nothing(rt, shop):
    text = (
        f"{HEAD},amount,period_unit,period_count,customer_id,customer_name,email\n"
        "CS1,OFFI100,3,YEAR,2,c-1,ACME,buyer@example.com\n"
        "\n"
        "CS2,OFFI100,,,,,,\n"
    )

    first = await brought(shop, text)
    before = await rows(rt, *TABLES)
    second = await brought(shop, text)

    assert (facts(first), facts(second)) == ((2, 0, 0, True), (0, 2, 0, True))
    assert before[:6] == [2, 2, 2, 2, 2, 1]
    assert await rows(rt, *TABLES) == before
    assert (await audit_database(rt)).clean


async def test_a_dry_run_says_the_same_and_writes_nothing(rt, shop):
    text = f"{HEAD}\nCS1,OFFI100\nCS2,NOBODY\nCS3,OFFI100\n"
    before = await rows(rt, *TABLES)

    tried = await brought(shop, text, dry_run=True)

    assert facts(tried) == (2, 0, 1, False)
    assert await rows(rt, *TABLES) == before
    done = await brought(shop, text)
    assert (done.created, done.bad_rows) == (tried.created, tried.bad_rows)


async def test_bad_rows_are_listed_by_line_and_the_good_ones_taken(rt, shop):
    text = (
        f"{HEAD},amount,order_time,license_code,order_type,period_unit\r\n"
        "CS1,OFFI100,1,,,,\r\n"
        "CS2,OFFI100,none,,,,\r\n"
        'CS3,OFFI100,1,"two\r\nlines",,,\r\n'
        "CS4,OFFI100,1,2026-02-30T00:00:00Z,,,\r\n"
        ",OFFI100,1,,,,\r\n"
        "CS6,OFFI100\r\n"
        "CS7,OFFI100,1,,short,,\r\n"
        "CS8,OFFI100,1,,,GIFT,\r\n"
        "CS9,OFFI100,1,,,,YEAR\r\n"
        "CS10,OFFI100,1,,LEGACY-0001,,\r\n"
        "CS11,OFFI100,1,,LEGACY-0001,,\r\n"
        "CS12,OFFI100,1,,LEGACY-0002,RENEW,\r\n"
        "CS13,OFFI100,1,,,,\r\n"
    )

    report = await brought(shop, text)

    assert facts(report) == (3, 0, 10, True)
    assert [(bad.row, bad.line) for bad in report.bad_rows] == [
        (2, 3), (3, 4), (4, 6), (5, 7), (6, 8), (7, 9), (8, 10), (9, 11), (11, 13), (12, 14)
    ]  # fmt: skip
    assert {bad.code for bad in report.bad_rows} == {
        "INVALID_BODY", "INVALID_PARAMETER", "ORDER_CONFLICT", "NOT_ISSUABLE"
    }  # fmt: skip
    assert "LEGACY" not in str(report)
    assert (await audit_database(rt)).clean


async def test_all_or_nothing_writes_nothing_for_one_bad_row(rt, shop):
    before = await rows(rt, *TABLES)
    good = "".join(f"CS{number},OFFI100\n" for number in range(120))

    report = await brought(shop, f"{HEAD}\n{good}CS999,NOBODY\n", all_or_nothing=True)

    assert facts(report) == (120, 0, 1, False)
    assert await rows(rt, *TABLES) == before
    assert facts(await brought(shop, f"{HEAD}\n{good}", all_or_nothing=True)) == (120, 0, 0, True)


async def test_a_code_made_elsewhere_is_found_as_it_was_sold(rt, shop, clock):
    start = rfc3339(clock.now - 86_400_000)
    text = f"{HEAD},license_code,service_start\nCS1,OFFI100,Legacy-Code-0001,{start}\n"

    await brought(shop, text)
    await brought(shop, text)

    loaded = await rt.db.read(lambda tx: licenses.by_code(tx, code_index(rt, "Legacy-Code-0001")))
    assert loaded is not None
    assert (loaded.view.state, loaded.view.service_start) == (LicenseState.ACTIVE, clock.now - 86_400_000)
    assert await rt.db.read(lambda tx: open_code(tx, rt, loaded)) == "Legacy-Code-0001"
    assert await rt.db.read(lambda tx: licenses.code_kinds(tx, loaded.view.id)) == {"own"}


async def test_a_code_of_the_marketplace_is_learned(rt, shop):
    other = await open_shop(rt, sold="OFFI200", kind=DeliveryKind.LICENSE_2_0, connection=shop.connection)

    report = await brought(other, f"{HEAD},license_code\nCS1,OFFI200,PLabc-0123456789\nCS2,OFFI200,\n")

    assert facts(report) == (2, 0, 0, True)
    assert await rows(rt, "orders", "licenses") == [2, 1]


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_code_stands_in_one_row_though_the_rows_are_batches_apart(shop, dry_run):
    rows_between = "".join(f"CS{number},OFFI100,\n" for number in range(100, 100 + importing.BATCH))

    report = await brought(
        shop, f"{HEAD},license_code\nCS1,OFFI100,LEGACY-0001\n{rows_between}CS2,OFFI100,LEGACY-0001\n", dry_run=dry_run
    )

    assert facts(report) == (51, 0, 1, not dry_run)


async def test_a_code_never_changes_hands(shop):
    await brought(shop, f"{HEAD},license_code\nCS1,OFFI100,LEGACY-0001\n")

    report = await brought(
        shop, f"{HEAD},license_code\nCS2,OFFI100,LEGACY-0001\nCS1,OFFI100,LEGACY-0002\nCS1,OFFI100,LEGACY-0001\n"
    )

    assert facts(report) == (0, 1, 2, True)
    assert {bad.code for bad in report.bad_rows} == {"ORDER_CONFLICT"}


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", f"{HEAD},customer_id,customer_name\nCS1,OFFI100,c-1,华为\n"),
        ("utf-8-sig", f"{HEAD},customer_id,customer_name\nCS1,OFFI100,c-1,华为\n"),
        ("gb18030", f"{HEAD},customer_id,customer_name\nCS1,OFFI100,c-1,华为\n"),
        ("utf-8", ' Order_ID , Marketplace_Product_Id ,customer_id,customer_name\r\nCS1, OFFI100 ,c-1,"华为"\r\n'),
        ("utf-8", f"{HEAD},customer_id,customer_name\nCS1,OFFI100,c-1,华为"),
    ],
)
async def test_files_of_spreadsheets_are_read(rt, shop, encoding, text):
    report = await brought(shop, text, encoding=encoding)

    assert facts(report) == (1, 0, 0, True), report.bad_rows
    buyer = await rt.db.read(lambda tx: tx.one("SELECT name FROM buyers"))
    assert buyer["name"] == "华为"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "marketplace_product_id|order_id"),
        (b"order_id\nCS1\n", "marketplace_product_id"),
        (b"order_id;marketplace_product_id\nCS1;OFFI100\n", "separated by commas"),
        (b"order_id,marketplace_product_id,colour\n", "no column 'colour'"),
        (b"order_id,marketplace_product_id,order_id\n", "twice"),
        ("order_id,marketplace_product_id\nCS1,OFFI100\n".encode("utf-16"), "neither"),
        (b"order_id,marketplace_product_id\nCS1,\xff\n", "neither"),
        (b'order_id,marketplace_product_id\nCS1,OFFI100\nCS2,"OFFI100\n', "line"),
        (b'order_id,marketplace_product_id\nCS1,"OFFI"100\n', "line 2"),
        (b"order_id,marketplace_product_id\nCS1," + b"x" * 200_000, "line 2"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "neither|no column"),
    ],
)
async def test_a_file_that_cannot_be_read_is_refused_as_a_whole(rt, shop, content, told):
    before = await rows(rt, *TABLES)

    with pytest.raises(InvalidParameter, match=told):
        await brought(shop, content)

    assert await rows(rt, *TABLES) == before


@pytest.mark.parametrize("cell", ["a\x00b", "\x1b[31m", "x" * 5_000, "=cmd|'/c calc'!A0\x07", "\x7f"])
async def test_a_cell_that_cannot_be_stored_is_a_bad_row(shop, cell):
    report = await brought(shop, f"{HEAD},customer_id\nCS1,OFFI100,{cell}\nCS2,OFFI100,c-2\n")

    assert facts(report) == (1, 0, 1, True)


async def test_a_buyer_without_an_id_is_a_bad_row_and_is_not_quoted(shop):
    report = await brought(shop, f"{HEAD},email,mobile\nCS1,OFFI100,canary@example.com,13800000000\n")

    assert facts(report) == (0, 0, 1, True)
    assert "canary" not in str(report)


async def test_more_rows_than_are_taken_at_once_are_refused(shop, monkeypatch):
    monkeypatch.setattr(importing, "MAX_ROWS", 3)
    text = f"{HEAD}\n" + "".join(f"CS{number},OFFI100\n" for number in range(4))

    with pytest.raises(InvalidParameter, match="4 rows"):
        await brought(shop, text)


async def test_only_so_many_bad_rows_are_listed_and_all_are_counted(shop, monkeypatch):
    monkeypatch.setattr(importing, "MAX_LISTED", 2)

    report = await brought(shop, f"{HEAD}\n" + "x,\n" * 5)

    assert (report.bad, len(report.bad_rows)) == (5, 2)


async def test_an_import_that_died_is_finished_by_the_same_file(rt, shop, monkeypatch):
    """The control of idempotency: half of the file is written, then the whole comes again."""
    text = f"{HEAD}\n" + "".join(f"CS{number},OFFI100\n" for number in range(120))
    write, calls = rt.db.write, 0

    async def dies(fn):
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ConnectionResetError
        return await write(fn)

    monkeypatch.setattr(rt.db, "write", dies)
    with pytest.raises(ConnectionResetError):
        await brought(shop, text)
    assert await rows(rt, "orders") == [importing.BATCH]
    monkeypatch.undo()

    assert facts(await brought(shop, text)) == (120 - importing.BATCH, importing.BATCH, 0, True)


async def test_writers_get_their_turn_between_the_batches(rt, shop):
    """An import never holds the writer for more than one batch."""

    text = f"{HEAD}\n" + "".join(f"CS{number},OFFI100\n" for number in range(150))
    task = asyncio.create_task(brought(shop, text))
    while await rows(rt, "orders") == [0]:
        pass

    await shop.sell("OTHER")

    assert not task.done()
    assert (await task).created == 150
