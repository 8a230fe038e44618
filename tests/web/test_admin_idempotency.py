"""`Idempotency-Key`: one effect, one answer."""

import asyncio

import pytest

from licensesvc.domain.errors import InProgress
from licensesvc.domain.instants import DAY
from licensesvc.services.access.idempotency import Answer, Keyed, answer_once
from licensesvc.storage import messages
from licensesvc.storage.messages import KeptAnswer
from tests.support_web import START, Site, make_catalog

KEY = {"idempotency-key": "3f0c7a5e-made-by-the-client"}
POLICY = {"name": "perpetual", "term": "PERPETUAL"}


async def test_the_same_request_again_gets_the_same_answer_and_does_nothing(site: Site):
    first = await site.owner.post("/admin/v1/policies", json=POLICY, headers=KEY)
    rows = await site.rows()

    second = await site.owner.post("/admin/v1/policies", json=POLICY, headers=KEY)

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert await site.rows() == rows


async def test_a_secret_is_replayed_and_lies_sealed_in_the_database(site: Site):
    body = {"name": "t", "role": "reader"}
    first = await site.owner.post("/admin/v1/tokens", json=body, headers=KEY)

    second = await site.owner.post("/admin/v1/tokens", json=body, headers=KEY)

    assert second.json()["token"] == first.json()["token"]
    kept = await site.rt.db.read(lambda tx: tx.one("SELECT response FROM idempotency_keys"))
    assert kept is not None
    assert first.json()["token"].encode() not in kept["response"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/v1/policies", {**POLICY, "name": "other"}),
        ("/admin/v1/policies?x=1", POLICY),
        ("/admin/v1/tokens", POLICY),
    ],
)
async def test_another_request_under_the_same_key_is_refused(site: Site, path: str, body: dict[str, str]):
    await site.owner.post("/admin/v1/policies", json=POLICY, headers=KEY)
    rows = await site.rows()

    response = await site.owner.post(path, json=body, headers=KEY)

    assert response.status_code == 422
    assert response.json()["code"] in {"IDEMPOTENCY_KEY_REUSED", "INVALID_BODY"}
    assert await site.rows() == rows


async def test_a_key_belongs_to_its_token(site: Site):
    catalog = await make_catalog(site)
    body = {"connection": catalog["connection"], "order_id": "CS1", "lines": [{"product": catalog["product"]}]}
    await site.owner.post("/admin/v1/orders", json=body, headers=KEY)

    response = await site.operator.post("/admin/v1/orders", json=body, headers=KEY)

    assert "idempotency-replayed" not in response.headers


async def test_a_refused_request_does_not_use_its_key_up(site: Site):
    wrong = await site.owner.post("/admin/v1/policies", json={"name": "p", "term": "PERIOD"}, headers=KEY)

    right = await site.owner.post("/admin/v1/policies", json=POLICY, headers=KEY)

    assert (wrong.status_code, right.status_code) == (422, 201)


async def test_twenty_at_once_have_one_effect(site: Site):
    answers = await asyncio.gather(
        *(site.owner.post("/admin/v1/policies", json=POLICY, headers=KEY) for _ in range(20))
    )

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert (await site.rows())["policies"] == 1


async def test_an_answer_is_forgotten_after_a_day(site: Site):
    await site.owner.post("/admin/v1/policies", json=POLICY, headers=KEY)
    site.clock.now += DAY + 1
    await site.owner.post("/admin/v1/policies", json={**POLICY, "name": "b"}, headers={"idempotency-key": "other"})

    assert (await site.rows())["idempotency_keys"] == 1


@pytest.mark.parametrize(("age", "replayed"), [(DAY, True), (DAY + 1, False)])
async def test_an_answer_is_replayed_for_a_day(site: Site, age: int, *, replayed: bool):
    body = {"name": "t", "role": "reader"}
    first = await site.owner.post("/admin/v1/tokens", json=body, headers=KEY)
    site.clock.now += age

    second = await site.owner.post("/admin/v1/tokens", json=body, headers=KEY)
    third = await site.owner.post("/admin/v1/tokens", json=body, headers=KEY)

    assert second.status_code == 201
    assert ("idempotency-replayed" in second.headers) == replayed
    assert (second.json()["id"] == first.json()["id"]) == replayed
    assert third.json() == second.json()


async def test_a_key_may_stand_for_another_request_after_a_day(site: Site):
    await site.owner.post("/admin/v1/policies", json=POLICY, headers=KEY)
    site.clock.now += DAY + 1

    response = await site.owner.post("/admin/v1/policies", json={**POLICY, "name": "b"}, headers=KEY)

    assert (response.status_code, response.json()["name"]) == (201, "b")


async def test_whoever_loses_a_race_between_processes_is_told_to_come_back(site: Site):
    keyed = Keyed(scope="tok", key="k", request_hash="h")

    async def meanwhile_another_process_kept_its_answer(tx):
        kept = KeptAnswer(request_hash="h", status=201, response=b"")
        await messages.keep_answer(tx, "tok", "k", kept, START)
        return Answer(status=201, body=b"{}")

    with pytest.raises(InProgress):
        await answer_once(site.rt, keyed, meanwhile_another_process_kept_its_answer)


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 129, "schlüssel"])
async def test_a_key_is_1_to_128_visible_characters(site: Site, key: str):
    response = await site.owner.post(
        "/admin/v1/policies", json=POLICY, headers={b"idempotency-key": key.encode("latin-1")}
    )

    assert (response.status_code, response.json()["code"]) == (400, "MALFORMED_REQUEST")
