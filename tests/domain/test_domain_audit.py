"""The audit chain: canonical bytes, and any change, gap or reordering is found where it happened."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.audit import GENESIS, AuditBroken, AuditEvent, AuditRow, encode, event_hash, verify_chain

EVENTS = st.builds(
    AuditEvent,
    at=st.integers(0, 10**13),
    actor=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    kind=st.sampled_from(["license.issued", "license.activated"]),
    subject=st.just("lic_1"),
    detail=st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 9) | st.sampled_from("xyz"), max_size=3),
)


def chain_of(events: list[AuditEvent], chain: str = "main") -> list[AuditRow]:
    rows: list[AuditRow] = []
    previous = GENESIS
    for seq, event in enumerate(events, 1):
        sealed = event_hash(encode(chain, seq, event, previous))
        rows.append(AuditRow(chain=chain, seq=seq, event=event, hash=sealed))
        previous = sealed
    return rows


CHAINS = st.lists(EVENTS, min_size=2, max_size=6).map(chain_of)


def test_encoded_bytes_never_change():
    event = AuditEvent(at=1, actor="tok_1", kind="license.issued", subject="lic_1", detail={"b": None, "a": "云"})
    encoded = encode("main", 1, event, GENESIS)
    assert encoded.decode() == (
        '{"actor":"tok_1","at":1,"chain":"main","detail":{"a":"云","b":null},"kind":"license.issued",'
        f'"previous":"{"00" * 32}","seq":1,"subject":"lic_1"}}'
    )
    assert event_hash(encoded) == hashlib.sha256(encoded).digest()


@given(CHAINS)
def test_a_sound_chain_has_its_last_row_as_head(rows):
    head = verify_chain(rows)
    assert (head.chain, head.seq, head.hash) == ("main", len(rows), rows[-1].hash)


@given(CHAINS, st.data())
def test_a_pruned_chain_holds_behind_its_cut(rows, data):
    cut = data.draw(st.integers(1, len(rows)))
    checkpoint = verify_chain(rows[:cut])
    assert verify_chain(rows[cut:], after=checkpoint) == verify_chain(rows)
    if cut < len(rows):
        with pytest.raises(AuditBroken):
            verify_chain(rows[cut:])


def test_an_empty_chain_has_no_head():
    assert verify_chain([]) is None


@given(CHAINS, st.data())
def test_a_changed_event_is_found(rows, data):
    at = data.draw(st.integers(0, len(rows) - 1))
    change = data.draw(
        st.sampled_from(
            [
                {"event": msgspec.structs.replace(rows[at].event, at=rows[at].event.at + 1)},
                {"event": msgspec.structs.replace(rows[at].event, detail={"forged": 1})},
                {"hash": bytes(range(32))},
                {"chain": "other"},
                {"seq": rows[at].seq + 1},
            ]
        )
    )
    rows[at] = msgspec.structs.replace(rows[at], **change)
    with pytest.raises(AuditBroken) as broken:
        verify_chain(rows)
    assert broken.value.seq == at + 1


@given(CHAINS, st.data())
def test_a_missing_or_moved_event_is_found(rows, data):
    at = data.draw(st.integers(0, len(rows) - 2))
    for damaged in ([*rows[:at], *rows[at + 1 :]], [*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]]):
        with pytest.raises(AuditBroken) as broken:
            verify_chain(damaged)
        assert broken.value.seq == at + 1


@given(CHAINS, EVENTS)
def test_rows_of_two_chains_do_not_mix(rows, event):
    with pytest.raises(AuditBroken) as broken:
        verify_chain([*rows, *chain_of([event], "other")])
    assert (broken.value.chain, broken.value.seq) == ("main", len(rows) + 1)
