"""Random lives of cases against a model of its own: the table of the tests, and a list of what happened.

`LICENSESVC_SUPERVISION_STEPS=100000` lets it take so many steps; without it a few thousand.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from licensesvc.domain.errors import AcceptanceNotConfirmed, ForbiddenActor, IllegalTransition, InvalidParameter
from licensesvc.domain.instants import MINUTE, zone_of
from licensesvc.domain.supervision import NEEDS_REASON, Actor, Event, FlowName, Node, Refund, Source
from licensesvc.domain.supervision_case import Facts, Happening, confirm, opened, possible, replay, step, turn
from licensesvc.domain.supervision_deadlines import Terms, deadlines
from tests.support_supervision import expected, stands

STEPS_IN_A_LIFE = 50
STEPS = int(os.environ.get("LICENSESVC_SUPERVISION_STEPS", "3000"))
T0 = 1_795_000_000_000
TERMS = Terms(ordered_at=T0, calendar=zone_of("Asia/Shanghai"), delivery_days=7)
# What happens on the marketplace's pages, said a second time.
THERE = {
    "code_submitted", "claimed", "proof_uploaded", "review_approved", "review_returned", "accepted", "rejected", "completed",
    "refund_asked", "refund_approved", "refund_refused", "goods_sent_back", "goods_confirmed", "goods_refused", "refunded",
}  # fmt: skip
taken = {"steps": 0, "legal": 0}


class Life(RuleBasedStateMachine):
    """One case; the model keeps what happened as (event, node before, node after, confirmed)."""

    @initialize(flow=st.sampled_from(FlowName))
    def begin(self, flow):
        self.flow = flow
        self.now = T0
        self.stand = (Node.PAID, Refund.NONE, False)
        self.told: list[list] = []
        self.log: list[Happening] = []
        self.state = opened(T0)

    def happening(self, event, actor, *, confirmed, reason="why"):
        facts = Facts(amount=5, paid=9) if event is Event.REFUND_ASKED else Facts()
        return Happening(
            event=event,
            actor=actor,
            source=Source.OPERATOR,
            at=self.now,
            confirmed_at=self.now if confirmed else None,
            reason=reason,
            facts=facts,
        )

    def live(self, event, actor, *, confirmed):
        taken["steps"] += 1
        self.now += MINUTE if self.log else 0  # a case is opened by its first event
        happening = self.happening(event, actor, confirmed=confirmed)
        legal = expected(self.flow, self.stand)
        before = self.state
        wanted = None
        if event not in legal:
            wanted = IllegalTransition
        elif actor not in legal[event][3]:
            wanted = ForbiddenActor
        elif event is Event.COMPLETED and not confirmed and not self.acceptance_confirmed():
            wanted = AcceptanceNotConfirmed
        try:
            after = step(self.flow, before, happening)
        except (IllegalTransition, ForbiddenActor, AcceptanceNotConfirmed) as refused:
            assert type(refused) is wanted  # noqa: PT017 -- which one is the point
            assert self.state == before
            return
        assert wanted is None
        taken["legal"] += 1
        if event in NEEDS_REASON:
            try:
                step(self.flow, before, self.happening(event, actor, confirmed=confirmed, reason=" "))
                raise AssertionError("no reason was needed")
            except InvalidParameter:
                pass
        if confirmed:
            for entry in self.told:
                entry[3] = True
            self.log = confirm(self.log, len(self.log), self.now)
        self.told.append([event, self.stand[0], legal[event][0], confirmed])
        self.stand = legal[event][:3]
        self.log.append(happening)
        self.state = after

    @rule(data=st.data(), confirmed=st.booleans())
    def something_possible(self, data, confirmed):
        self.go_on(data, confirmed=confirmed)

    @rule(data=st.data(), confirmed=st.booleans())
    def something_else_possible(self, data, confirmed):
        """Twice among the rules, so that lives get somewhere."""
        self.go_on(data, confirmed=confirmed)

    def go_on(self, data, *, confirmed):
        legal = expected(self.flow, self.stand)
        assume(legal)
        if data.draw(st.integers(0, 9)):  # a refund ends a life, so few lives have one
            legal = {event: move for event, move in legal.items() if move[0] is not Node.REFUNDED} or legal
        event = data.draw(st.sampled_from(sorted(legal)))
        self.live(event, data.draw(st.sampled_from(sorted(legal[event][3]))), confirmed=confirmed)

    @rule(event=st.sampled_from(Event), actor=st.sampled_from(Actor), confirmed=st.booleans())
    def anything(self, event, actor, confirmed):
        self.live(event, actor, confirmed=confirmed)

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def confirm_some(self, data):
        taken["steps"] += 1
        self.now += MINUTE
        place = data.draw(st.integers(0, len(self.log) - 1))
        self.log = confirm(self.log, place, self.now)
        for entry in self.told[: place + 1]:
            entry[3] = True
        self.state = replay(self.flow, self.log)

    def since_reopening(self):
        reopened = [place for place, entry in enumerate(self.told) if entry[0] is Event.REOPENED]
        return self.told[reopened[-1] + 1 :] if reopened else self.told

    def acceptances(self):
        return [entry for entry in self.since_reopening() if entry[2] is Node.ACCEPTED is not entry[1]]

    def acceptance_confirmed(self):
        return any(entry[3] for entry in self.acceptances())

    @invariant()
    def the_case_is_as_the_model_says(self):
        state = self.state
        assert (state.node, state.refund, state.frozen) == self.stand
        assert self.stand in stands(self.flow) or self.stand[0] is Node.PAID
        assert state.rejections == sum(entry[0] is Event.REJECTED for entry in self.told)
        assert (state.accepted_at is not None) is bool(self.acceptances())
        assert (state.acceptance_confirmed_at is not None) is self.acceptance_confirmed()
        waiting = [
            entry
            for entry in self.told
            if not entry[3] and (entry[0] in THERE or entry[2] is Node.ACCEPTED is not entry[1])
        ]
        assert (state.unconfirmed_since is not None) is bool(waiting)
        assert (state.completed_at is not None) is (state.node is Node.COMPLETED)
        assert (state.refund_amount is not None) <= (state.refund is not Refund.NONE)

    @invariant()
    def the_log_rebuilds_it(self):
        if self.log:
            assert replay(self.flow, self.log) == self.state

    @invariant()
    def somebody_can_go_on_unless_it_has_ended(self):
        whose = turn(self.flow, self.state)
        if whose is not None:
            assert any(whose in move.actors for move in possible(self.flow, self.state).values())
        for due in deadlines(self.flow, self.state, TERMS, self.now):
            assert due.past is (self.now > due.at)


def test_random_lives_are_as_the_model_says():
    taken.update(steps=0, legal=0)
    while taken["steps"] < STEPS:
        lives = max(1, (STEPS - taken["steps"]) // STEPS_IN_A_LIFE)
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=min(lives, 500),
                stateful_step_count=STEPS_IN_A_LIFE,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert taken["legal"] > taken["steps"] // 5


def test_the_control_a_planted_fault_is_found(monkeypatch):
    """A table that lets the buyer complete is found out."""
    from licensesvc.domain import supervision_case

    real = supervision_case.moves

    def planted(flow, node, refund, *, frozen):
        moves = dict(real(flow, node, refund, frozen=frozen))
        if Event.COMPLETED in moves:
            moves[Event.COMPLETED] = moves[Event.COMPLETED]._replace(actors=frozenset(Actor))
        return moves

    monkeypatch.setattr(supervision_case, "moves", planted)
    with pytest.raises((AssertionError, ExceptionGroup)):
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=300,
                stateful_step_count=STEPS_IN_A_LIFE,
                deadline=None,
                database=None,
                report_multiple_bugs=False,
                phases=[Phase.generate],  # found is enough, it need not be made small
                suppress_health_check=list(HealthCheck),
            ),
        )
