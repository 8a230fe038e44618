"""Chaos: the same for a seed whatever happens at the same time, each mischief really done, and mistakes of the seller told from its duties."""

import json

import pytest

from licensesvc.domain.instants import SECOND
from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.sandbox.chaos import ALL, REFUSED, SKEW, Chaos, Mischief, Misfortune, Wish
from licensesvc.sandbox.orders import Activity
from licensesvc.sandbox.product import Product
from tests.sandbox.conftest import eventually, now
from tests.sandbox.test_sandbox_changes import buy, changed
from tests.support_edges import KEY, listening, open_edge

V1, V2 = "LICENSE_1_0", "LICENSE_2_0"


def fates(seed, names, rate=0.5):
    chaos = Chaos(Wish(seed=seed, rate=rate))
    return [chaos.delivery(*name) for name in names]


def test_a_seed_tells_all():
    names = [(f"CS{number}", Activity.GET_LICENSE) for number in range(200)]

    told = fates(1, names)

    assert told == fates(1, [(f"other{number}", Activity.GET_LICENSE) for number in range(200)])
    assert told != fates(2, names)
    assert {fate.mischief for fate in told} == set(Mischief)
    assert 60 < sum(fate.mischief is Mischief.NONE for fate in told) < 140


def test_what_happens_at_the_same_time_changes_nothing():
    alone = Chaos(Wish(seed=3, rate=0.7))
    expected = [alone.delivery("first", "a") for _ in range(20)]

    busy = Chaos(Wish(seed=3, rate=0.7))
    met = []
    for _ in range(20):
        met.append(busy.delivery("first", "a"))
        busy.delivery("first", "b")
        busy.delivery("second", "a")
        busy.api_call("/v1/license/activate")

    assert met == expected


def test_skews_stay_fresh_and_delays_are_bounded():
    told = fates(5, [(f"CS{number}", "x") for number in range(400)], rate=1.0)

    assert {fate.mischief for fate in told} == set(ALL)
    skews = [fate.skew for fate in told if fate.mischief is Mischief.CLOCK_SKEW]
    assert max(map(abs, skews)) <= SKEW < 60 * SECOND
    assert min(skews) < 0 < max(skews)
    assert all(0 <= fate.delay <= 120_000 for fate in told)
    assert all(fate.skew == 0 for fate in told if fate.mischief is not Mischief.CLOCK_SKEW)


def test_only_what_was_wished_for_happens():
    wish = Wish(seed=1, rate=1.0, only=(Mischief.DUPLICATE,))
    chaos = Chaos(wish)

    assert {chaos.delivery(str(number), "x").mischief for number in range(20)} == {Mischief.DUPLICATE}
    assert {chaos.api_call("/x") for _ in range(20)} == {Misfortune.NONE}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"chaos":{}}',
        b'{"chaos":{"seed":"1"}}',
        b'{"chaos":{"seed":1,"rate":1.1}}',
        b'{"chaos":{"seed":1,"rate":-0.1}}',
        b'{"chaos":{"seed":1,"only":["war"]}}',
        b'{"chaos":{"seed":1,"surplus":1}}',
        b'{"seed":1}',
    ],
)
async def test_a_wish_that_is_none_is_400(local, body):
    assert (await local.http.put("/sandbox/chaos", content=body)).status_code == 400
    assert (await local.http.get("/sandbox/chaos")).json() == {"chaos": None, "tally": {}}


async def wish(sandbox, only=(), seed=1, rate=1.0):
    body = {"chaos": {"seed": seed, "rate": rate, "only": list(only)}}
    assert (await sandbox.http.put("/sandbox/chaos", json=body)).status_code == 204


async def tally(sandbox):
    return (await sandbox.http.get("/sandbox/chaos")).json()["tally"]


async def transcripts(sandbox, order):
    return (await sandbox.http.get(f"/sandbox/orders/{order['order_id']}")).json()["deliveries"]


@pytest.mark.parametrize("dialect", [V1, V2])
@pytest.mark.parametrize("mischief", ALL)
async def test_each_mischief_is_done_and_the_right_call_arrives(paired, seller, until, dialect, mischief):
    seller.by_order = True
    order = await buy(paired, dialect)
    seller.calls.clear()
    seller.queries.clear()
    await wish(paired, [mischief])

    if dialect == V1:
        await paired.http.post(f"/sandbox/orders/{order['order_id']}/redeliver")
    else:
        await changed(paired, order, "freeze")
    told = await eventually(lambda: tally(paired), bool)

    assert told == {mischief: {"made": 1, "mistaken": 0}}
    made = [one for one in await transcripts(paired, order) if one["mischief"] != "none"]
    twice = {Mischief.DUPLICATE, Mischief.CONCURRENT_DUPLICATE, Mischief.DROP_ANSWER}
    assert len(seller.calls) == (2 if mischief in twice or (mischief, dialect) == (Mischief.REUSED_NONCE, V1) else 1)
    assert all(one["ok"] for one in made)
    if mischief in REFUSED and (mischief, dialect) != (Mischief.REUSED_NONCE, V1):
        (refused,) = made
        assert refused["verdict"] == "refused as it should be"
        assert json.loads(refused["body"])["resultCode"] == "000001"
    if mischief is Mischief.DROP_ANSWER:
        assert [(one["status"], one["verdict"]) for one in made] == [(None, "sent, and hung up before the answer")]
    if mischief is Mischief.CLOCK_SKEW and dialect == V2:
        sent = int(seller.queries[0].split("timestamp=")[1].split("&")[0])
        assert 1 <= abs(now() - sent) < 60_000


async def test_a_reordered_notification_arrives_after_the_call_that_followed_it(run_sandbox, seller, until):
    seller.by_order = True
    async with run_sandbox(time_factor=1.0) as sandbox:
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        chaos = Chaos(Wish(seed=0, rate=0.5, only=(Mischief.REORDER,)))
        seed = next(
            seed
            for seed in range(1_000)
            if [fate.mischief for fate in fates_of_an_order(seed)] == [Mischief.REORDER, Mischief.NONE]
        )
        assert chaos.wish.kinds == (Mischief.REORDER,)
        await wish(sandbox, [Mischief.REORDER], seed=seed, rate=0.5)

        placed = await buy(sandbox, V1, notify=True)
        await until(lambda: len(seller.calls) == 2)

    assert seller.kinds() == ["GetLicense", "OrderNotify"]
    assert [one["activity"] for one in placed["deliveries"]] == ["getLicense"]


def fates_of_an_order(seed):
    chaos = Chaos(Wish(seed=seed, rate=0.5, only=(Mischief.REORDER,)))
    return [chaos.delivery("CS1", activity, "purchase") for activity in (Activity.ORDER_NOTIFY, Activity.GET_LICENSE)]


class Forgetful:
    """Makes one mistake, which chaos must find."""

    def __init__(self, seller, mistake):
        self.seller, self.mistake, self.right = seller, mistake, seller.answer
        self.licenses = 0

    def __call__(self, scope, body):
        if self.mistake == "forgets nonces":
            self.seller.nonces.clear()
        if self.mistake == "has no clock":
            query = scope["query_string"].decode()
            self.seller.now = lambda: int(query.split("timestamp=")[1].split("&")[0])
        answer = self.right(scope, body)
        if self.mistake == "believes everybody" and b"000001" in answer:
            return callbacks.result(CallbackCode.SUCCESS)
        if self.mistake == "issues again" and b'"license"' in answer:
            self.licenses += 1
            return callbacks.get_license_success(f"LS-{self.licenses}", "i-1")
        return answer


@pytest.mark.parametrize(
    ("mistake", "mischief", "dialect"),
    [
        ("forgets nonces", Mischief.REUSED_NONCE, V2),
        ("has no clock", Mischief.STALE_TIMESTAMP, V2),
        ("believes everybody", Mischief.BAD_SIGNATURE, V2),
        ("believes everybody", Mischief.STALE_TIMESTAMP, V1),
        ("issues again", Mischief.DUPLICATE, V1),
        ("issues again", Mischief.CONCURRENT_DUPLICATE, V1),
    ],
)
async def test_a_seller_that_is_wrong_is_found_out(paired, seller, mistake, mischief, dialect):
    seller.answer = Forgetful(seller, mistake)
    await wish(paired, [mischief])

    order = await buy(paired, dialect)
    if dialect == V2:
        await changed(paired, order, "freeze")

    assert await tally(paired) == {mischief: {"made": 1, "mistaken": 1}}
    assert [one["ok"] for one in await transcripts(paired, order)].count(False) == 1


async def test_the_open_api_is_away_by_the_same_dice(sandbox, state):
    runs = []
    for _ in range(2):
        await wish(sandbox, seed=9, rate=0.5)
        async with Product(sandbox.url, state.api_access_key, state.api_secret) as software:
            runs.append(["error_code" in await software.heartbeat("PL1") for _ in range(20)])
        assert (await tally(sandbox))["503 from the open API"]["made"] == runs[-1].count(False)
    assert runs[0] == runs[1]
    assert 0 < sum(runs[0]) < 20

    await sandbox.http.put("/sandbox/chaos", json={"chaos": None})
    async with Product(sandbox.url, state.api_access_key, state.api_secret) as software:
        assert all(["error_code" in await software.heartbeat("PL1") for _ in range(5)])


async def test_two_sandboxes_with_one_seed_do_the_same(run_sandbox, seller, tmp_path):
    from licensesvc.sandbox.state import State

    seller.by_order = True
    lives = []
    for number in range(2):
        state = State.open(tmp_path / str(number) / "sandbox.json")
        seller.key = state.callback_key
        async with run_sandbox(state, chaos=Wish(seed=11, rate=0.8)) as sandbox:
            await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
            orders = [await buy(sandbox, V1) for _ in range(6)]
            await all_delivered(sandbox)
            lives.append([[one["mischief"] for one in await transcripts(sandbox, order)] for order in orders])
    assert lives[0] == lives[1]
    assert len({mischief for life in lives[0] for mischief in life}) > 2


async def test_our_own_server_bears_all_of_it(run_sandbox, state, tmp_path):
    async with open_edge(tmp_path) as edge:
        edge.clock.now = now()
        async with listening(edge.app) as port:
            state._content.callback_key = KEY
            async with run_sandbox(state, clock=edge.clock, chaos=Wish(seed=7, rate=1.0)) as sandbox:
                url = f"http://127.0.0.1:{port}{edge.shop.url}"
                await sandbox.http.put("/sandbox/seller", json={"callback_url": url})
                orders = [await buy(sandbox, V1, product_id="OFFI100", notify=True) for _ in range(12)]
                await all_delivered(sandbox)
                for kind in ("renew", "expire", "renew", "release"):
                    for order in orders:
                        assert (await changed(sandbox, order, kind)).status_code == 200
                    await all_delivered(sandbox)
                told = await tally(sandbox)
                made = [one for order in orders for one in await transcripts(sandbox, order)]
        licenses = await edge.rt.db.read(lambda tx: tx.all("SELECT state, expires_at FROM license_states"))
    assert [one for one in made if not one["ok"]] == []
    assert {kind: one["mistaken"] for kind, one in told.items()} == dict.fromkeys(ALL, 0)
    assert len({state.orders[order["order_id"]].license for order in orders}) == 12
    ends = {order.ends_at for order in state.orders.values() if order.order_type == "RENEW"}
    assert {(one["state"], one["expires_at"] in ends) for one in licenses} == {("RELEASED", True)}
    assert len(licenses) == 12


async def all_delivered(sandbox):
    async def states():
        return {one["state"] for one in (await sandbox.http.get("/sandbox/messages")).json()}

    await eventually(states, lambda found: found == {"delivered"})
