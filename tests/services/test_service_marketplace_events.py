"""Every row of docs/marketplace-events.md on both engines: what is answered, where it ends, and what it leaves behind."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from msgspec import structs

from licensesvc.domain import marketplace_calls
from licensesvc.domain.connection import UnknownCodes
from licensesvc.domain.errors import DomainError, IllegalLicenseState
from licensesvc.domain.instants import from_datetime, rfc3339, to_datetime
from licensesvc.domain.license import LicenseStatus, status_at, wire_status
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.calls.receive_call import receive_call
from licensesvc.services.licenses import change_license
from licensesvc.services.licenses.change_license import Target
from licensesvc.services.licenses.sign_license import signed_license
from licensesvc.services.licenses.validate_license import validate_license
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import licenses
from licensesvc.web.callbacks.routes import RESULT_CODES
from tests.services.test_service_activation import activated, beat
from tests.services.test_service_orders import ask_for
from tests.support_edges import change, open_shop
from tests.support_events import CALLS, CODE, ROWS, page
from tests.support_process import CHECKOUT

SUCCESS = b'{"resultCode":"000000","resultMsg":"success."}'


class Play:
    """Plays the words of a row in one shop."""

    def __init__(self, shop, clock):
        self.shop, self.rt, self.clock = shop, shop.rt, clock
        self.code = CODE
        self.answers = []

    async def word(self, word):
        if word in CALLS or "*" in word or "+" in word:
            await self._calls(word)
        elif word == "order":
            await self._order()
        elif word == "activate":
            await self._activate()
        elif word == "revoke":
            await self._change(change_license.revoke)
        elif word.startswith("operator"):
            await self._change(change_license.move_expiry, f"{word[-4:]}-11-18T11:06:40Z")
        else:
            self.clock.now = from_datetime(datetime(int(word), 6, 1, tzinfo=UTC))

    async def _calls(self, word):
        name, _, times = word.partition("*")
        alone = [await self.call(name) for _ in range(int(times or 1))] if "+" not in word else []
        at_once = await asyncio.gather(*(self.call(part) for part in word.split("+"))) if "+" in word else []
        # Of repeats the table gives the one answer that all of them get.
        self.answers += list(dict.fromkeys(alone)) if times else alone
        self.answers += list(dict.fromkeys(at_once)) if len(set(word.split("+"))) == 1 else at_once

    async def call(self, name):
        connection = self.shop.connection
        try:
            received = await receive_call(
                self.rt, connection, CALLS[name][1], nonce=None, by=connection.public_id, source="callback"
            )
        except DomainError as error:
            return RESULT_CODES[type(error)].value
        assert received.body == SUCCESS
        return "000000"

    async def _order(self):
        if self.shop.product.delivery_kind is DeliveryKind.LICENSE_1_0:
            self.code = (await ask_for(self.shop)).license
        else:
            await self.shop.sell(code=CODE)

    async def _activate(self):
        try:
            await activated(self.shop, self.code)
        except IllegalLicenseState:
            return

    async def _change(self, verb, *args):
        view = (await self.loaded()).view
        target = Target(license_id=view.public_id, version=view.version, by="tok_1", reason="test")
        await self.rt.db.write(lambda tx: verb(tx, self.rt, target, *args))

    async def loaded(self):
        everything = await self.rt.db.read(lambda tx: licenses.page(tx, after=0, limit=9))
        assert len(everything) == 1
        return everything[0]


def words(happens):
    return happens.replace("operator 2030", "operator-2030").split()


@pytest.fixture
async def play(rt, clock):
    async def played(row):
        kind = DeliveryKind.LICENSE_1_0 if "V1" in row.happens else DeliveryKind.LICENSE_2_0
        shop = await open_shop(rt, kind=kind)
        if row.learn:
            await change(rt, "UPDATE connections SET unknown_codes = 'learn'")
            shop = replace(shop, connection=structs.replace(shop.connection, unknown_codes=UnknownCodes.LEARN))
        playing = Play(shop, clock)
        for word in words(row.happens):
            await playing.word(word)
        return playing

    return played


async def kinds_of(rt):
    found = await rt.db.read(lambda tx: tx.all("SELECT kind FROM audit_events WHERE subject LIKE 'lic_%'"))
    return Counter(row["kind"] for row in found)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.happens[:60])
async def test_whatever_comes_late_the_end_is_the_defined_one(play, row, clock):
    played = await play(row)

    loaded = await played.loaded()
    view, status = loaded.view, status_at(loaded.view, clock.now)
    assert " ".join(played.answers) == row.answers
    assert status == row.status
    assert to_datetime(view.expires_at).year == row.ends, rfc3339(view.expires_at)
    assert (view.freeze_unheeded_at is not None) == row.flagged
    validated = await validate_license(played.rt, code=played.code, nonce="n" * 16, fingerprint=None)
    assert validated.validation.status == status
    if status is not LicenseStatus.NOT_ACTIVATED:
        assert (await beat(played.shop, played.code)).status == wire_status(status)
    assert (await kinds_of(played.rt))["license.freeze_not_applied"] <= 1
    report = await audit_database(played.rt)
    assert report.clean, report.findings


async def test_sixty_repeats_leave_one_trace(play):
    for row in (row for row in ROWS if row.case == "sixty repeats of one refresh"):
        played = await play(row)

        assert (await kinds_of(played.rt))["license.refreshed"] == 1
        assert (await played.loaded()).view.version == 3  # issued, activated, refreshed


async def test_the_signed_license_follows_on_demand(play):
    played = await play(next(row for row in ROWS if row.happens == "order activate R1*60"))
    public_id = (await played.loaded()).view.public_id

    assert (await signed_license(played.rt, public_id)).revision == 2
    assert (await signed_license(played.rt, public_id)).revision == 2
    await played.word("R2")
    assert (await signed_license(played.rt, public_id)).revision == 3
    for word in ("2030", "FREEZE"):
        await played.word(word)
    with pytest.raises(IllegalLicenseState):
        await signed_license(played.rt, public_id)


async def test_a_server_that_obeys_the_last_call_is_caught_by_the_table(play, monkeypatch):
    monkeypatch.setattr(marketplace_calls, "supersedes", lambda _new, _current: True)
    for row in (row for row in ROWS if row.happens == "order activate R2 R1"):
        played = await play(row)

        assert to_datetime((await played.loaded()).view.expires_at).year == 2028 != row.ends


def test_the_page_shows_the_table():
    shown = (CHECKOUT / "docs" / "marketplace-events.md").read_text(encoding="utf-8")
    assert shown == page(), "run: python -m tests.support_events > docs/marketplace-events.md"
