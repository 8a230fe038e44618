"""`audit` finds every planted contradiction, each with its own check, and nothing else."""

import pytest

from licensesvc.services.licenses.activate import activate
from licensesvc.services.licenses.seats import take_seat
from licensesvc.services.licenses.sign_license import signed_license
from licensesvc.services.upkeep.audit_database import audit_database
from tests.services.test_service_activation import activation
from tests.support_edges import change, open_shop


@pytest.fixture(params=["sqlite"])
def engine(request):
    """The planted statements are plain SQL, and the checks the same on both engines."""
    return request.param


@pytest.fixture
async def lived(shop):
    """A shop with a license that was sold, delivered, seated and activated."""
    code = await shop.sell_code("CS1")
    received = await shop.sell("CS1")
    await take_seat(shop.rt, code, "device")
    await signed_license(shop.rt, received.license.view.public_id)
    await shop.rt.db.submit(activate, activation(shop, await shop.sell_code("CS2")))
    return shop


PLANTED = {
    "a seat too many counted": ("UPDATE license_states SET seats_taken = 2 WHERE seats_taken = 1", "seats"),
    "a seat too few counted": ("UPDATE license_states SET seats_taken = 0 WHERE seats_taken = 1", "seats"),
    "an activation gone": ("DELETE FROM activations WHERE released_at IS NULL", "seats"),
    "a node moved": ("UPDATE supervision_cases SET node = 'ACCEPTED' WHERE id = 1", "cases"),
    "a node unknown": ("UPDATE supervision_cases SET node = 'BOGUS' WHERE id = 1", "cases"),
    "an event gone": ("DELETE FROM supervision_events WHERE id = 1", "cases"),
    "an event of another kind": ("UPDATE supervision_events SET event = 'completed' WHERE id = 2", "cases"),
    "a license active too early": (
        "UPDATE license_states SET activated_at = 1 WHERE activated_at IS NULL",
        "cases",
    ),
    "an audit row changed": ("UPDATE audit_events SET subject = 'lic_other' WHERE seq = 5", "audit chain"),
    "an audit time changed": ("UPDATE audit_events SET at = at + 1 WHERE seq = 4", "audit chain"),
    "an audit detail that is no JSON": ("UPDATE audit_events SET detail = '{' WHERE seq = 4", "audit chain"),
    "an audit row gone": ("DELETE FROM audit_events WHERE seq = 3", "audit chain"),
    "the first audit row gone": ("DELETE FROM audit_events WHERE seq = 1", "audit chain"),
    "a code index changed": ("UPDATE license_codes SET code_index = 'x' WHERE id = 1", "codes"),
    "a code that does not open": (
        "UPDATE license_codes SET sealed = (SELECT sealed FROM license_codes WHERE id = 2) WHERE id = 1",
        "codes",
    ),
    "an order never asked for": (
        (
            "INSERT INTO outbox (kind, subject, payload, created_at, due_at, given_up_at)"
            " VALUES ('order_query', 'CS404', '{}', 1, 1, 2)"
        ),
        "outbox",
    ),
    "a code gone": ("DELETE FROM license_codes WHERE id = 1", "codes"),
}


async def test_a_sound_database_is_clean(lived):
    report = await audit_database(lived.rt)

    assert report.clean, report.findings
    assert report.counts == {
        "licenses": 2,
        "documents": 2,
        "cases": 2,
        "audit events": report.counts["audit events"],
    }


@pytest.mark.parametrize("name", PLANTED)
async def test_each_planted_contradiction_is_found_by_its_check(lived, name):
    sql, check = PLANTED[name]
    if name == "a license active too early":
        await lived.sell("CS3")
    await change(lived.rt, sql)

    report = await audit_database(lived.rt)

    assert {finding.check for finding in report.findings} == {check}


async def test_a_changed_signature_is_found(lived):
    await change(lived.rt, "UPDATE license_documents SET signature = $1 WHERE signature IS NOT NULL", b"\x01" * 64)

    assert [finding.check for finding in (await audit_database(lived.rt)).findings] == ["documents"]


async def test_changed_signed_bytes_are_found(lived):
    row = await lived.rt.db.read(
        lambda tx: tx.one("SELECT license_id, signing_input FROM license_documents WHERE signature IS NOT NULL")
    )
    forged = bytes(row["signing_input"][:-4]) + b"AAAA"
    await change(
        lived.rt,
        "UPDATE license_documents SET signing_input = $1 WHERE license_id = $2 AND signature IS NOT NULL",
        forged,
        row["license_id"],
    )

    assert [finding.check for finding in (await audit_database(lived.rt)).findings] == ["documents"]


async def test_several_contradictions_are_all_told(lived):
    await change(lived.rt, PLANTED["a seat too many counted"][0])
    await change(lived.rt, PLANTED["a node moved"][0])
    await change(lived.rt, PLANTED["an audit row gone"][0])
    await open_shop(lived.rt, name="intl")

    assert {finding.check for finding in (await audit_database(lived.rt)).findings} == {"seats", "cases", "audit chain"}
