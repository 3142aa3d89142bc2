"""The replica model: many steps at once and step by step are the same; memory, leaving, crashing, hanging."""

from __future__ import annotations

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
    preempted_ids: list[int] = field(default_factory=list)
    tokens: dict[int, int] = field(default_factory=dict)

    def first_token(self, request: SimulatedRequest) -> None:
        self.tokens[id(request)] = 1

    def token(self, request: SimulatedRequest) -> None:
        self.tokens[id(request)] += 1

    def ended(self, request: SimulatedRequest) -> None:
        self.told.append(("ended", request.prompt_tokens))

    def preempted(self, request: SimulatedRequest) -> None:
        self.told.append(("preempted", request.prompt_tokens))


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


@pytest.mark.parametrize("seed", range(6))
def test_many_steps_at_once_are_as_one_by_one(seed: int) -> None:
    """First tokens, ends, preemptions and hits are the same, with growing steps, a full memory, and clients that go."""
    whole, single = requests_of(seed), requests_of(seed)
    fast, fast_told = play(whole, TIMING, whole_steps=True, leave_every=7)
    slow, slow_told = play(single, TIMING, whole_steps=False, leave_every=7)
    for one, other in zip(whole, single, strict=True):
        assert (one.first_token_s is None) == (other.first_token_s is None)
        assert (one.ended_s is None) == (other.ended_s is None)
        if one.first_token_s is not None:
            assert one.first_token_s == pytest.approx(other.first_token_s, abs=1e-9)
        if one.ended_s is not None:
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
