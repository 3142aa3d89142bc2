"""The replica model against an engine that counts everything, one step after another, in the plainest way."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import ceil, inf

import pytest

from inferry.simulate.replica_model import ReplicaModel
from inferry.simulate.replica_request import SimulatedRequest
from inferry.simulate.timing import EngineTiming

TIMING = EngineTiming(
    prefill_tokens_per_s=6000.0,
    step_s=0.025,
    step_s_per_sequence=0.0005,
    step_s_per_kv_token=1e-6,
    step_tokens_max=300,
    sequences_max=10,
    kv_tokens=3200,
    block_tokens=16,
)


@dataclass(eq=False)
class Plain:
    """A request of the plain engine."""

    at_s: float
    prompt: int
    answer: int
    said: int = 0
    to_compute: int = 0
    first_s: float = inf
    ended_s: float = inf

    @property
    def blocks(self) -> int:
        """What it needs: for all up to the token that it computes next."""
        return ceil((self.prompt + self.said) / TIMING.block_tokens)


def plain_engine(requests: list[Plain]) -> int:
    """Sets their times; returns how often one was preempted."""
    coming = sorted(requests, key=lambda each: each.at_s)
    waiting: list[Plain] = []
    running: list[Plain] = []
    now_s, preemptions = 0.0, 0
    blocks_max = TIMING.kv_tokens // TIMING.block_tokens
    while coming or waiting or running:
        if not waiting and not running:
            now_s = max(now_s, coming[0].at_s)
        while coming and coming[0].at_s <= now_s:
            waiting.append(coming.pop(0))
        was_preempted = False
        while sum(each.blocks for each in running) > blocks_max:
            waiting.insert(0, running.pop())
            was_preempted = True
            preemptions += 1
        answering = [each for each in running if not each.to_compute]
        room = TIMING.step_tokens_max - len(answering)
        parts: list[tuple[Plain, int]] = []
        for each in running:
            if each.to_compute and room:
                parts.append((each, min(each.to_compute, room)))
                room -= parts[-1][1]
        while waiting and room and len(running) < TIMING.sequences_max and not was_preempted:
            first = waiting[0]
            if sum(each.blocks for each in running) + first.blocks > blocks_max:
                break
            running.append(waiting.pop(0))
            first.to_compute = first.prompt + first.said
            parts.append((first, min(first.to_compute, room)))
            room -= parts[-1][1]
        now_s += TIMING.step_s_of(
            len(answering),
            sum(each.prompt + each.said for each in answering),
            sum(part for _, part in parts),
        )
        for each, part in parts:
            each.to_compute -= part
            if not each.to_compute:
                answering.append(each)
        for each in answering:
            each.said += 1
            each.first_s = min(each.first_s, now_s)
            if each.said == each.answer:
                each.ended_s = now_s
                running.remove(each)
    return preemptions


class Nobody:
    """Hears, and does nothing."""

    def first_token(self, request: SimulatedRequest) -> None: ...

    def token(self, request: SimulatedRequest) -> None: ...

    def ended(self, request: SimulatedRequest) -> None: ...

    def preempted(self, request: SimulatedRequest) -> None: ...


@pytest.mark.parametrize("seed", range(4))
def test_times_and_preemptions_are_those_of_a_plain_engine(seed: int) -> None:
    """First tokens and ends to a nanosecond, through full memories and times without anybody."""
    rng = random.Random(seed)
    at_s = 0.0
    plain = []
    for number in range(100):
        at_s += rng.expovariate(4.0) if number % 25 else 20.0
        plain.append(Plain(at_s, rng.randrange(1, 900), rng.randrange(1, 400)))
    preemptions = plain_engine(plain)
    model = ReplicaModel(TIMING, Nobody())
    requests = [SimulatedRequest(each.at_s, each.prompt, each.answer) for each in plain]
    for request in requests:
        while model.next_s < request.arrival_s:
            model.advance(model.next_s)
        model.submit(request, request.arrival_s)
    model.advance(1e6)
    assert model.preemptions == preemptions > 0
    for request, each in zip(requests, plain, strict=True):
        assert request.first_token_s == pytest.approx(each.first_s, abs=1e-9)
        assert request.ended_s == pytest.approx(each.ended_s, abs=1e-9)
