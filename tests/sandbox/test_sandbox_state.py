"""The sandbox's file: private, atomic, bounded, the same after a restart."""

import os
import re

import msgspec
import pytest

from licensesvc.domain.product import DeliveryKind
from licensesvc.sandbox import state as state_module
from licensesvc.sandbox.codes import make_test
from licensesvc.sandbox.orders import NewOrder, place
from licensesvc.sandbox.state import State, StateError, sandbox_file

NOW = 1_763_900_000_000
# As the first version wrote it, when there were orders only.
FIRST_VERSION = (
    b'{"seller_callback_url":null,"callback_key":"'
    + b"k" * 32
    + b'","api_access_key":"AK","api_secret":"SK","orders":['
    b'{"order_id":"CSAAAAAAAAAAAAA","order_line_id":"CSAAAAAAAAAAAAA-000001","created_at":1763900000000,"product_id":"OFFI1",'
    b'"dialect":"LICENSE_1_0","sku_code":null,"amount":1,"period_type":null,"period_number":null,"order_type":"NEW",'
    b'"calls":["orderNotify","getLicense"],"license":"LS-1","instance_id":"i-1"}]}'
)


def an_order(**fields):
    return place(NewOrder(product_id="OFFI1", dialect=DeliveryKind.LICENSE_1_0, **fields), NOW)


def test_first_start_makes_private_file_with_fresh_secrets(tmp_path):
    one = State.open(sandbox_file(tmp_path / "one"))
    other = State.open(sandbox_file(tmp_path / "other"))

    assert (tmp_path / "one" / "sandbox.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700
    assert re.fullmatch("[A-Z0-9]{20}", one.api_access_key)
    assert re.fullmatch("[A-Z0-9]{40}", one.api_secret)
    assert len(one.callback_key) == 32
    assert len({one.callback_key, one.api_secret, other.callback_key, other.api_secret}) == 4
    assert one.seller_callback_url is None


def test_everything_survives_a_restart(state, tmp_path):
    orders = [an_order() for _ in range(3)]
    for order in orders:
        state.put(order)
    state.put(msgspec.structs.replace(orders[0], license="LS-1", instance_id="i-1"))
    state.set_seller("http://127.0.0.1:8080/callbacks/c")

    again = State.open(sandbox_file(tmp_path))

    assert again.callback_key == state.callback_key
    assert (again.api_access_key, again.api_secret) == (state.api_access_key, state.api_secret)
    assert again.seller_callback_url == "http://127.0.0.1:8080/callbacks/c"
    assert list(again.orders.values()) == list(state.orders.values())
    assert again.orders[orders[0].order_id].license == "LS-1"


def test_the_file_has_the_documented_members(state, tmp_path):
    state.put(an_order())

    members = msgspec.json.decode((tmp_path / "sandbox.json").read_bytes())

    assert list(members) == [
        *("version", "seller_callback_url", "callback_key", "api_access_key", "api_secret"),
        *("orders", "codes", "debug_cases"),
    ]


def test_a_file_of_the_first_version_is_read_and_goes_on_as_the_second(tmp_path):
    path = sandbox_file(tmp_path)
    path.write_bytes(FIRST_VERSION)
    path.chmod(0o600)

    state = State.open(path)
    [old] = state.orders.values()
    state.put(an_order(), codes=[make_test("OFFI1", 30, NOW)])

    assert (old.order_id, old.license, old.stage, old.of) == ("CSAAAAAAAAAAAAA", "LS-1", "placed", None)
    again = State.open(path)
    assert (len(again.orders), len(again.codes), again.callback_key) == (2, 1, "k" * 32)
    assert msgspec.json.decode(path.read_bytes())["version"] == 2


def test_a_file_of_a_later_version_is_refused(tmp_path):
    path = sandbox_file(tmp_path)
    path.write_bytes(FIRST_VERSION.replace(b'{"seller', b'{"version":3,"seller'))
    path.chmod(0o600)

    with pytest.raises(StateError, match="version"):
        State.open(path)


def test_nothing_is_written_when_nothing_has_changed(state, tmp_path):
    order, code = an_order(), make_test("OFFI1", 30, NOW)
    state.put(order, codes=[code])
    written = (tmp_path / "sandbox.json").stat().st_ino

    state.put(order, codes=[code])

    assert (tmp_path / "sandbox.json").stat().st_ino == written


def test_orders_and_codes_are_written_together_or_not_at_all(state, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        state.put(an_order(), codes=[make_test("OFFI1", 30, NOW) for _ in range(3)])

    again = State.open(sandbox_file(tmp_path))
    assert (len(again.orders), len(again.codes)) == (0, 0)


def test_saved_debug_cases_survive_and_are_bounded(state, tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "MAX_PROBED", 1)
    for dialect in ("2.0", "1.0", "2.0"):
        state.save_debug_cases("OFFI1", dialect)

    with pytest.raises(StateError, match="1 products"):
        state.save_debug_cases("OFFI2", "2.0")
    assert State.open(sandbox_file(tmp_path)).debug_cases == {"OFFI1": {"1.0", "2.0"}}


def test_the_oldest_order_is_forgotten_beyond_the_bound(state, tmp_path, monkeypatch):
    monkeypatch.setattr(state_module, "MAX_ORDERS", 2)
    orders = [an_order() for _ in range(3)]
    for order in orders:
        state.put(order)

    assert list(State.open(sandbox_file(tmp_path)).orders) == [orders[1].order_id, orders[2].order_id]


def test_a_crash_before_the_replacement_keeps_the_old_file(state, tmp_path, monkeypatch):
    state.put(an_order())
    before = (tmp_path / "sandbox.json").read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        state.put(an_order())

    assert (tmp_path / "sandbox.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["sandbox.json"]


def test_of_two_first_starts_at_once_both_use_the_first_ones_secrets(tmp_path, monkeypatch):
    first = State.open(sandbox_file(tmp_path))
    exists = type(tmp_path).exists
    monkeypatch.setattr(type(tmp_path), "exists", lambda path: path.name != "sandbox.json" and exists(path))

    second = State.open(sandbox_file(tmp_path))

    assert second.callback_key == first.callback_key


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"callback_key":"x"}', b"\xff", b'{"callback_key":"x","surplus":1}']
)
def test_a_damaged_file_is_refused_in_one_line_and_left_alone(tmp_path, content):
    path = sandbox_file(tmp_path)
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(StateError) as caught:
        State.open(path)

    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(state, tmp_path, mode):
    sandbox_file(tmp_path).chmod(mode)

    with pytest.raises(StateError, match="chmod 600"):
        State.open(sandbox_file(tmp_path))


def test_no_secret_shows_in_a_repr(state):
    shown = repr(state) + repr(vars(state))

    for secret in (state.callback_key, state.api_access_key, state.api_secret):
        assert secret not in shown
