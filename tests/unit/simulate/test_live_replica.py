"""The replica model under a real clock: answers that stand still, late steps; and the delay that keeps a place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

import pytest

from inferry.simulate.live_replica import LiveReplica
from inferry.simulate.replica_model import ReplicaModel
from inferry.simulate.replica_request import SimulatedRequest, Stage
from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_of_simulated import timing_of_simulated
from tests.unit.simulate.test_replica_model import TIMING, Journal, play, requests_of

PLAIN = timing_of_simulated(context_tokens=64, parallel=2, ttft_s=2.0, itl_s=0.5)


@dataclass
class Heard:
    """When each request was told a token."""

    replica: LiveReplica[SimulatedRequest] | None = None
    at_s: dict[int, list[float]] = field(default_factory=dict)
    pause_at: tuple[int, int] = (-1, -1)
    """Which request, at which token."""

    def first_token(self, request: SimulatedRequest) -> None:
        self.token(request)

    def token(self, request: SimulatedRequest) -> None:
        assert self.replica is not None
        told = self.at_s.setdefault(request.prompt_tokens, [])
        told.append(self.replica.now_s)
        if self.pause_at == (request.prompt_tokens, len(told)):
            self.replica.pause(request)

    def ended(self, request: SimulatedRequest) -> None:
        pass

    preempted = ended


def live(heard: Heard, timing: EngineTiming = PLAIN) -> LiveReplica[SimulatedRequest]:
    heard.replica = LiveReplica(timing, heard)
    return heard.replica


def run(replica: LiveReplica[SimulatedRequest], until_s: float = inf) -> None:
    while replica.next_s < until_s:
        replica.step()


def test_a_first_token_after_ttft_and_then_one_each_itl() -> None:
    """Alone: exactly the seconds that the options name."""
    heard = Heard()
    replica = live(heard)
    replica.submit(SimulatedRequest(0.0, 7, 4), 10.0)
    run(replica)
    assert heard.at_s == {7: [12.0, 12.5, 13.0, 13.5]}


def test_the_wait_for_the_first_token_keeps_a_place() -> None:
    """With two places the third request's time begins when one is free; all are answered, none twice."""
    heard = Heard()
    replica = live(heard)
    for prompt in (1, 2, 3):
        replica.submit(SimulatedRequest(0.0, prompt, 3), 0.0)
    assert (replica.running, replica.waiting) == (2, 1)
    run(replica)
    assert heard.at_s == {1: [2.0, 2.5, 3.0], 2: [2.0, 2.5, 3.0], 3: [5.0, 5.5, 6.0]}
    assert (replica.running, replica.waiting, replica.next_s) == (0, 0, inf)


def test_who_leaves_while_it_prepares_gives_its_place_to_the_next() -> None:
    """Nothing is being computed just then, and still the one that waits gets in at once."""
    heard = Heard()
    replica = live(heard)
    several = [SimulatedRequest(0.0, prompt, 2) for prompt in (1, 2, 3)]
    for request in several:
        replica.submit(request, 0.0)
    replica.leave(several[0], 1.0)
    run(replica)
    assert heard.at_s == {2: [2.0, 2.5], 3: [3.0, 3.5]}


@pytest.mark.parametrize("seed", [0, 5, 6])
def test_with_such_a_delay_many_steps_at_once_are_as_one_by_one(seed: int) -> None:
    """The simulator's way and the live engine's way give the same times, to a nanosecond."""
    timing = replace(TIMING, place_s=0.13)
    whole, single = requests_of(seed), requests_of(seed)
    play(whole, timing, whole_steps=True, leave_every=5)
    play(single, timing, whole_steps=False, leave_every=5)
    for one, other in zip(whole, single, strict=True):
        assert (one.first_token_s or 0) == pytest.approx(other.first_token_s or 0, abs=1e-9)
        assert (one.ended_s or 0) == pytest.approx(other.ended_s or 0, abs=1e-9)
    assert sum(request.ended_s is not None for request in whole) > 90


def test_an_answer_that_is_paused_keeps_its_place_and_goes_on() -> None:
    """The others don't notice, no one takes its place, and the token after the pause comes a step later."""
    heard = Heard(pause_at=(1, 2))
    replica = live(heard, timing_of_simulated(context_tokens=64, parallel=2, ttft_s=0.5, itl_s=0.5))
    one, other, third = (SimulatedRequest(0.0, prompt, 5) for prompt in (1, 2, 3))
    for request in (one, other, third):
        replica.submit(request, 0.0)
    run(replica, until_s=6.1)
    assert heard.at_s[1] == [0.5, 1.0]
    assert heard.at_s[2] == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert heard.at_s[3] == [3.5, 4.0, 4.5, 5.0, 5.5]
    assert (replica.running, replica.next_s) == (1, inf)
    assert replica.kv_use(6.0) > 0
    replica.resume(one, 7.0)
    run(replica)
    assert heard.at_s[1] == [0.5, 1.0, 7.5, 8.0, 8.5]
    assert (replica.running, replica.kv_use(9.0)) == (0, 0.0)


def test_a_paused_one_may_leave() -> None:
    """Also between its return and the next step; its place and its blocks are free again."""
    for returns in (False, True):
        heard = Heard(pause_at=(1, 1))
        replica = live(heard)
        one, other = SimulatedRequest(0.0, 1, 5), SimulatedRequest(0.0, 2, 9)
        replica.submit(one, 0.0)
        replica.submit(other, 0.0)
        run(replica, until_s=2.4)
        assert one.stage is Stage.PAUSED
        if returns:
            replica.resume(one, 2.2)
        replica.leave(one, 2.3)
        run(replica)
        assert heard.at_s[1] == [2.0]
        assert len(heard.at_s[2]) == 9
        assert (replica.running, replica.kv_use(99.0)) == (0, 0.0)


def test_a_step_that_nobody_went_on_with_is_put_off() -> None:
    """All that follows comes so much later, and meanwhile the engine was not busy."""
    heard = Heard()
    replica = live(heard)
    replica.submit(SimulatedRequest(0.0, 1, 3), 0.0)
    run(replica, until_s=2.1)
    replica.postpone(4.0)
    run(replica)
    assert heard.at_s[1] == [2.0, 6.5, 7.0]
    assert replica.busy_s(7.0) == pytest.approx(1.5)


def test_a_journal_of_the_models_tests_is_a_listener() -> None:
    """The same listener serves both classes: the live one is the model, and adds nothing to its times."""
    requests, same = requests_of(1, 30), requests_of(1, 30)
    model: ReplicaModel[SimulatedRequest] = LiveReplica(TIMING, Journal())
    for request in requests:
        while model.next_s < request.arrival_s:
            model.advance(model.next_s)
        model.submit(request, request.arrival_s)
    while model.next_s < inf:
        model.advance(model.next_s)
    play(same, TIMING, whole_steps=True)
    for one, other in zip(requests, same, strict=True):
        assert one.ended_s == pytest.approx(other.ended_s, abs=1e-9)
