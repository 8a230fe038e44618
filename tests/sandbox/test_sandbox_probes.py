"""Saved debug cases: replayed every morning and afternoon of the sandbox's own days, mailed about, and five bad days freeze the product."""

import pytest

from licensesvc.domain.instants import DAY
from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.sandbox.check_cases import CALLS
from licensesvc.sandbox.mails import Mailbox
from licensesvc.sandbox.marketplace import NoSeller
from licensesvc.sandbox.post import Answered
from licensesvc.sandbox.probes import Probes, SaveCases
from tests.sandbox.conftest import eventually

NOW = 1_763_900_000_000
REFUSAL = {"body": callbacks.result(CallbackCode.INTERNAL_ERROR)}
ORDER = {"product_id": "OFFI1", "dialect": "GENERAL", "notify": False}


async def save(sandbox, product_id="OFFI1", dialect="2.0"):
    response = await sandbox.http.post("/sandbox/probes/cases", json={"product_id": product_id, "dialect": dialect})
    assert response.status_code == 201, response.text
    return response.json()


async def probes(sandbox):
    return (await sandbox.http.get("/sandbox/probes")).json()


@pytest.mark.parametrize("dialect", ["2.0", "1.0"])
async def test_every_interface_has_its_case_and_touches_nothing_live(paired, seller, dialect):
    seller.by_order = True
    names = await save(paired, dialect=dialect)
    seller.calls.clear()

    [one] = (await paired.http.post("/sandbox/probes/replay")).json()

    assert names == [call.name for call in CALLS if call.dialect == dialect]
    assert (one["failed"], one["cases"]) == ({}, len(names))
    assert all(call.test for call in seller.calls)
    assert len(seller.calls) >= len(names)


async def test_five_bad_days_in_a_row_freeze_the_product_until_it_is_thawed(run_sandbox, seller, state):
    day = [NOW]
    seller.now = lambda: day[0]
    async with run_sandbox(state, clock=lambda: day[0], time_factor=1.0) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        await save(sandbox)
        await save(sandbox, "OFFI2")

        async def replay(*, bad):
            seller.script = [REFUSAL] if bad else []
            rounds = (await sandbox.http.post("/sandbox/probes/replay")).json()
            return {one["product_id"]: (one["day"], len(one["failed"])) for one in rounds}

        for number, bad in enumerate([True] * 4 + [False] + [True] * 4, start=1):
            assert await replay(bad=bad) == {"OFFI1": (number, int(bad)), "OFFI2": (number, 0)}
            day[0] += DAY
        shown = await probes(sandbox)
        assert (shown["failing_days"], shown["frozen"]) == ({"OFFI1": 4, "OFFI2": 0}, [])
        assert (await sandbox.http.post("/sandbox/orders", json=ORDER)).status_code == 201
        await replay(bad=True)
        assert (await replay(bad=False)).keys() == {"OFFI2"}
        assert (await probes(sandbox))["frozen"] == ["OFFI1"]
        refused = await sandbox.http.post("/sandbox/orders", json=ORDER)
        assert (refused.status_code, "frozen" in refused.json()["detail"]) == (409, True)
        assert (await sandbox.http.post("/sandbox/orders", json={**ORDER, "product_id": "OFFI2"})).status_code == 201
        mails = (await sandbox.http.get("/sandbox/mails")).json()
        assert len(mails) == 9
        assert [("冻结交易" in mail["text"]) for mail in mails] == [False] * 8 + [True]

        assert (await sandbox.http.post("/sandbox/probes/thaw", json={"product_id": "OFFI1"})).status_code == 204
        assert (await sandbox.http.post("/sandbox/orders", json=ORDER)).status_code == 201
        assert await replay(bad=False) == {"OFFI1": (10, 0), "OFFI2": (10, 0)}


async def test_a_good_afternoon_does_not_mend_a_bad_morning(run_sandbox, seller, state):
    day = [NOW]
    seller.now = lambda: day[0]
    async with run_sandbox(state, clock=lambda: day[0], time_factor=1.0) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        await save(sandbox)
        for script in ([REFUSAL], []):
            seller.script = script
            await sandbox.http.post("/sandbox/probes/replay")
            day[0] += DAY // 3
        assert (await probes(sandbox))["failing_days"] == {"OFFI1": 1}


async def test_it_runs_by_itself_on_days_as_long_as_the_time_factor_makes_them(run_sandbox, seller):
    # A day is 86 ms: the cases are replayed within seconds on more than five of them.
    async with run_sandbox(time_factor=1e-6) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        await save(sandbox)
        seller.script = [REFUSAL] * 10_000
        shown = await eventually(lambda: probes(sandbox), lambda found: found["frozen"])
    assert shown["rounds"][-1]["day"] >= 5


class Nobody:
    """A seller that nobody has named at first, and that answers nothing."""

    def __init__(self):
        self.asked = 0

    async def __call__(self, call):
        self.asked += 1
        if self.asked == 1:
            raise NoSeller
        return Answered(answer=None, why_not="ConnectError", ms=1)


async def test_an_address_that_does_not_answer_fails_every_case(state):
    mailbox = Mailbox()
    watched = Probes(Nobody(), state, lambda: NOW, 1.0, mailbox)
    watched.save(SaveCases(product_id="OFFI1"))
    with pytest.raises(NoSeller):
        await watched.replay()

    [one] = await watched.replay()

    assert set(one.failed.values()) == {"ConnectError"}
    assert len(one.failed) == one.cases
    assert len(mailbox.kept) == 1


async def test_saved_cases_survive_a_restart(run_sandbox, seller, state):
    async with run_sandbox(state) as sandbox:
        await save(sandbox)
    async with run_sandbox(type(state).open(state._path)) as sandbox:
        assert (await probes(sandbox))["saved"] == {"OFFI1": ["2.0"]}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"product_id":""}', b'{"product_id":"O","dialect":"3.0"}'])
async def test_cases_that_are_none_are_400(local, body):
    assert (await local.http.post("/sandbox/probes/cases", content=body)).status_code == 400


async def test_replays_without_a_seller_are_a_conflict(sandbox):
    await save(sandbox)

    assert (await sandbox.http.post("/sandbox/probes/replay")).status_code == 409
