"""The replica model: many steps at once and step by step are the same; memory, leaving, crashing, hanging."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import pytest

from inferry.simulate.replica_model import ReplicaModel
from inferry.simulate.replica_request import SimulatedRequest, Stage
from inferry.simulate.timing import EngineTiming

TIMING = EngineTiming(
    prefill_tokens_per_s=8000.0,
    step_s=0.02,
    step_s_per_sequence=0.0004,
    step_s_per_kv_token=2e-7,
    prefill_s_per_pair=3e-9,
    step_tokens_max=512,
    sequences_max=12,
    kv_tokens=6400,
    block_tokens=16,
    request_s=0.007,
)


@dataclass
class Journal:
    """All that was told, in order."""

    told: list[tuple[str, int]] = field(default_factory=list)
    tokens: dict[int, int] = field(default_factory=dict)

    def first_token(self, request: SimulatedRequest) -> None:
        self.tokens[id(request)] = 1

    def token(self, request: SimulatedRequest) -> None:
        self.tokens[id(request)] += 1

    def ended(self, request: SimulatedRequest) -> None:
        self.told.append(("ended", request.prompt_tokens))

    def preempted(self, request: SimulatedRequest) -> None:
        self.told.append(("preempted", request.prompt_tokens))


CALM = EngineTiming(
    prefill_tokens_per_s=1000.0,
    step_s=0.1,
    step_s_per_sequence=0.0,
    step_tokens_max=1000,
    sequences_max=8,
    kv_tokens=160,
    block_tokens=16,
)
"""A step is 0.1 s, and a millisecond more per token of prompt; ten blocks."""


def requests_of(seed: int, count: int = 120) -> list[SimulatedRequest]:
    """Families of prompts that begin alike; more than the memory holds, and now and then nobody for a while."""
    rng = random.Random(seed)
    requests = []
    at_s = 0.0
    for number in range(count):
        at_s += rng.expovariate(6.0) if number % 40 else 8.0
        blocks = rng.randrange(1, 60)
        shared = rng.randrange(0, blocks + 1)
        family = rng.randrange(4)
        ids = tuple(
            family * 1000 + at if at < shared else 100_000 + number * 100 + at for at in range(blocks)
        )
        prompt = blocks * 16 - rng.randrange(16)
        requests.append(
            SimulatedRequest(at_s, prompt, rng.randrange(1, 200), ids if rng.random() < 0.7 else ())
        )
    return requests


def play(
    requests: Sequence[SimulatedRequest], timing: EngineTiming, *, whole_steps: bool, leave_every: int = 0
) -> tuple[ReplicaModel[SimulatedRequest], Journal]:
    """Each as it comes; of every so many, one leaves 0.9 s later."""
    journal = Journal()
    model = ReplicaModel(timing, journal, whole_steps=whole_steps)
    events: list[tuple[float, int, SimulatedRequest]] = []
    for number, request in enumerate(requests):
        events.append((request.arrival_s, 0, request))
        if leave_every and number % leave_every == 0:
            events.append((request.arrival_s + 0.9, 1, request))
    for at_s, leaves, request in sorted(events, key=lambda event: event[0]):
        while model.next_s < at_s:
            model.advance(model.next_s)
        if leaves:
            model.leave(request, at_s)
        else:
            model.submit(request, at_s)
    while model.next_s < inf:
        model.advance(model.next_s)
    return model, journal


VARIANTS = {
    "growing steps": TIMING,
    "a delay with a place": dataclasses.replace(TIMING, place_s=0.05, request_s=0.0),
    "equal steps": dataclasses.replace(TIMING, step_s_per_kv_token=0.0),
    "small chunks": dataclasses.replace(TIMING, step_tokens_max=40, block_tokens=1, kv_tokens=2000),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("variant", VARIANTS)
def test_many_steps_at_once_are_as_one_by_one(variant: str, seed: int) -> None:
    """First tokens, ends, preemptions and hits are the same, with a full memory, and clients that go."""
    timing = VARIANTS[variant]
    whole, single = requests_of(seed), requests_of(seed)
    fast, fast_told = play(whole, timing, whole_steps=True, leave_every=7)
    slow, slow_told = play(single, timing, whole_steps=False, leave_every=7)
    for one, other in zip(whole, single, strict=True):
        assert one.first_token_s == pytest.approx(other.first_token_s, abs=1e-9)
        assert one.ended_s == pytest.approx(other.ended_s, abs=1e-9)
        assert (one.cached_tokens, one.said) == (other.cached_tokens, other.said)
    assert fast_told.told == slow_told.told
    assert fast.preemptions == slow.preemptions > 0
    assert fast.cached_tokens == slow.cached_tokens > 0
    assert fast.uncached_tokens == slow.uncached_tokens
    assert fast.answer_tokens == slow.answer_tokens
    assert fast.busy_s(fast.now_s) == pytest.approx(slow.busy_s(slow.now_s))
    for request in single:
        if request.ended_s is not None:
            assert slow_told.tokens[id(request)] == request.answer_tokens


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_left_behind(seed: int) -> None:
    """When all have gone, none of its memory is in use, and it waits for nothing."""
    requests = requests_of(seed)
    model, _ = play(requests, TIMING, whole_steps=True, leave_every=3)
    assert (model.running, model.waiting, model.kv_use(model.now_s), model.next_s) == (0, 0, 0.0, inf)
    assert all(request.stage is Stage.GONE for request in requests)


def test_a_prompt_waits_until_there_are_blocks_for_all_of_it() -> None:
    """Of ten blocks, the first takes six and then a seventh; the second needs five and comes in when the first ends."""
    first, second = SimulatedRequest(0.0, 96, 10), SimulatedRequest(0.0, 80, 1)
    play([first, second], CALM, whole_steps=True)
    assert first.ended_s == pytest.approx(0.196 + 9 * 0.1)
    assert second.first_token_s == pytest.approx(0.196 + 9 * 0.1 + 0.18)


def test_the_youngest_gives_up_its_blocks_and_begins_anew() -> None:
    """Two prompts of four blocks, and answers of 64 tokens: at 17 tokens each takes its sixth block, and there are
    ten. The second is computed again when the first has ended, with the 16 tokens that it had said, and says no token
    twice."""
    first, second = SimulatedRequest(0.0, 64, 64), SimulatedRequest(0.0, 64, 64)
    model, journal = play([first, second], CALM, whole_steps=False)
    # The second comes in with the step after the first's prompt: it is a token behind.
    assert second.first_token_s == pytest.approx(0.164 + 0.164)
    assert model.preemptions == 1
    assert first.ended_s == pytest.approx(0.164 + 0.164 + 62 * 0.1)
    said = 16
    assert first.ended_s is not None
    assert model.uncached_tokens == 64 + 64 + 64 + said
    assert second.ended_s == pytest.approx(first.ended_s + 0.1 + (64 + said) * 0.001 + (64 - said - 1) * 0.1)
    assert journal.tokens[id(second)] == 64
    assert second.cached_tokens == 0


def test_what_a_preempted_request_had_computed_is_found_again_while_it_is_kept() -> None:
    """Its prompt's blocks have ids: those that nobody took meanwhile need no computing."""
    first = SimulatedRequest(0.0, 64, 64)
    second = SimulatedRequest(0.0, 64, 64, (1, 2, 3, 4))
    model, _ = play([first, second], CALM, whole_steps=True)
    # The first took three of the second's blocks for its own answer, up to nine of ten; the first of them is left.
    assert model.preemptions == 1
    assert model.uncached_tokens == 64 + 64 + (64 + 16) - 2 * 16
    assert second.cached_tokens == 0


def test_blocks_that_two_share_are_counted_once() -> None:
    """Two prompts of four blocks, three of them the same, and a block for what each says: seven of ten."""
    journal = Journal()
    model = ReplicaModel(CALM, journal)
    model.submit(SimulatedRequest(0.0, 64, 10, (1, 2, 3, 4)), 0.0)
    model.advance(0.5)
    model.submit(SimulatedRequest(0.5, 64, 10, (1, 2, 3, 5)), 0.5)
    model.advance(0.9)
    assert model.running == 2
    assert model.kv_use(0.9) == pytest.approx(0.7)
    assert model.cached_tokens == 48


def test_one_that_leaves_makes_room_after_the_step_under_way() -> None:
    """Its client went in the middle of a step: the one that waited for its blocks begins at that step's end."""
    first, second = SimulatedRequest(0.0, 96, 50), SimulatedRequest(0.0, 80, 1)
    model = ReplicaModel(CALM, Journal())
    model.submit(first, 0.0)
    model.submit(second, 0.0)
    model.leave(first, 0.196 + 3.5 * 0.1)
    assert first.said == 1 + 3
    model.advance(10.0)
    assert first.ended_s is None
    assert second.ended_s == pytest.approx(0.196 + 4 * 0.1 + 0.18)


@pytest.mark.parametrize("whole_steps", [True, False])
def test_a_listener_may_let_requests_leave_and_come_meanwhile(whole_steps: bool) -> None:
    """At the first token of one, another leaves and a third comes: it is in the next step."""
    first, other, third = (SimulatedRequest(0.0, 16, 20) for _ in range(3))

    class Meddler(Journal):
        def first_token(self, request: SimulatedRequest) -> None:
            super().first_token(request)
            if request is other:
                model.leave(first, model.now_s)
                model.submit(third, model.now_s)

    model = ReplicaModel(CALM, Meddler(), whole_steps=whole_steps)
    model.submit(first, 0.0)
    model.submit(other, 0.05)
    model.advance(100.0)
    assert (first.ended_s, first.said) == (None, 2)
    assert other.first_token_s == pytest.approx(2 * 0.116)
    assert third.first_token_s == pytest.approx(3 * 0.116)
    assert third.ended_s == pytest.approx(3 * 0.116 + 19 * 0.1)


def test_a_crash_loses_all_and_gives_it_back_in_order() -> None:
    """Those that ran before those that waited; then it is as new, and its counts go on."""
    requests = [SimulatedRequest(0.0, 64, 50, (9, 8, 7, 6)) for _ in range(4)]
    model = ReplicaModel(CALM, Journal())
    for request in requests:
        model.submit(request, 0.0)
    model.advance(1.0)
    assert (model.running, model.waiting) == (4, 0)
    assert model.clear(1.05) == requests
    # The first prompt took 0.164 s, the others a step of 0.103 s with a token each; and seven steps since.
    assert [request.said for request in requests] == [9, 8, 8, 8]
    assert model.answer_tokens == 33
    assert (model.running, model.kv_use(1.05), model.next_s) == (0, 0.0, inf)
    assert model.busy_s(2.0) == pytest.approx(1.05)
    again = SimulatedRequest(2.0, 64, 2, (9, 8, 7, 6))
    model.submit(again, 2.0)
    model.advance(10.0)
    assert again.cached_tokens == 0
    assert again.ended_s == pytest.approx(2.264)


def test_a_frozen_replica_goes_on_where_it_stood() -> None:
    """A second's pause moves every later time by a second; who came meanwhile is in the next step; it was not busy."""
    first, second = SimulatedRequest(0.0, 16, 11), SimulatedRequest(0.5, 16, 1)
    model = ReplicaModel(CALM, Journal())
    model.submit(first, 0.0)
    model.freeze(0.3)
    model.submit(second, 0.5)
    assert model.next_s == inf
    assert model.busy_s(1.0) == pytest.approx(0.3)
    model.thaw(1.3)
    model.advance(10.0)
    assert second.first_token_s == pytest.approx(1.0 + 0.316 + 0.116)
    assert first.ended_s == pytest.approx(1.0 + 0.116 + 10 * 0.1 + 0.016)
    assert model.busy_s(10.0) == pytest.approx(0.116 + 10 * 0.1 + 0.016)


def test_a_slow_replica_takes_longer_from_the_next_step_on() -> None:
    """Three times as long, from the end of the step under way; and as before when that is over."""
    request = SimulatedRequest(0.0, 16, 11)
    model = ReplicaModel(CALM, Journal())
    model.submit(request, 0.0)
    model.slow_down(3.0, 0.116 + 2.5 * 0.1)
    model.slow_down(1.0, 0.116 + 3 * 0.1 + 3.5 * 0.3)
    model.advance(10.0)
    assert request.ended_s == pytest.approx(0.116 + 3 * 0.1 + 4 * 0.3 + 3 * 0.1)


def test_growing_contexts_make_steps_longer() -> None:
    """Attention reads what came before: 16 tokens of prompt and a token more with each step."""
    request = SimulatedRequest(0.0, 16, 11)
    play([request], dataclasses.replace(CALM, step_s_per_kv_token=0.001), whole_steps=True)
    assert request.ended_s == pytest.approx(0.116 + 10 * 0.1 + sum(range(17, 27)) * 0.001)


def test_what_is_longer_than_the_memory_does_not_fit() -> None:
    """An engine refuses it; here, it is to be asked before."""
    model = ReplicaModel(CALM, Journal())
    assert model.fits(100, 60)
    assert not model.fits(100, 61)


def test_what_is_longer_than_the_models_context_does_not_fit() -> None:
    """However much memory there is: a prompt needs room for a token, and its answer ends where the context does."""
    model = ReplicaModel(dataclasses.replace(CALM, context_tokens=100), Journal())
    assert model.fits(99, 1)
    assert not model.fits(100, model.answer_fits(100, 1))
    assert model.answer_fits(90, 60) == 10
    assert model.answer_fits(90, 5) == 5


def test_one_that_comes_to_another_replica_begins_there_anew() -> None:
    """It is told when its first token is out there, whatever it had before."""
    request = SimulatedRequest(0.0, 16, 50)
    journal = Journal()
    model, other = ReplicaModel(CALM, journal), ReplicaModel(CALM, journal)
    model.submit(request, 0.0)
    assert model.clear(0.5) == [request]
    other.submit(request, 1.0)
    assert request.first_token_s is None
    other.advance(1.2)
    assert request.first_token_s == pytest.approx(1.116)
