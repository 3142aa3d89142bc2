"""Days of traffic in seconds: requests as a flow through equal replicas, one second at a time, under a real autoscaler.

For what can't be simulated one by one: two weeks of hundreds of requests a second. The law of a step is that of
`EngineTiming`; what is left out is what makes single requests and replicas differ: all replicas carry the same, all
prompts are of the mean length, answers are of a few lengths, and nobody counts how long whole answers take. Compare it with `simulate.experiment` where that can
be run, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp

from inferry.core.latency_counts import LatencyCounts, bucket_of
from inferry.policy.scaling.decision import Autoscaler, ScalingDecision
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic
from inferry.simulate.timing import EngineTiming

ANSWERS = ((0.137, 0.25), (0.47, 0.25), (0.985, 0.25), (2.408, 0.25))
"""Lengths of answers over their mean, and their shares: the quarters of an exponential distribution, each by its
mean."""


@dataclass(frozen=True, slots=True)
class FlowService:
    """A deployment, its requests' lengths and its objectives."""

    timing: EngineTiming
    prompt_tokens: float
    answer_tokens: float
    ttft_s: float
    itl_s: float
    start_s: float = 120.0
    gpus_per_replica: int = 1
    running_max: int | None = None
    """`queue.running_max`: requests at one replica; more wait at the gateway. None: the engine's own bound."""
    wait_max_s: int | None = None
    """`queue.wait_max_s`, in whole seconds: who would wait longer is refused. None: all wait."""

    @property
    def slots(self) -> int:
        """Of one replica."""
        sequences = self.timing.sequences_max
        return sequences if self.running_max is None else min(self.running_max, sequences)

    def requests_per_s(self) -> float:
        """What one replica carries with all its slots taken, or with steps as long as `itl_s` allows if that is less.

        A step of b answers takes step_s + b x step_s_per_sequence, stretched by the prompts: each of the b requests
        brings one of `prompt_tokens` every `answer_tokens` steps. So a stretched step takes
        s(b) = step_s + b x (step_s_per_sequence + prompt / prefill rate / answer), and r = b / (answer x s(b)).
        """
        timing = self.timing
        each_s = (
            timing.step_s_per_sequence + self.prompt_tokens / timing.prefill_tokens_per_s / self.answer_tokens
        )
        batch = min(float(self.slots), (self.itl_s - timing.step_s) / each_s)
        return max(batch, 0.0) / (self.answer_tokens * (timing.step_s + each_s * batch))


@dataclass(slots=True)
class FlowResult:
    """What came of it. Shares are of the requests that ended."""

    seconds: int = 0
    arrived: int = 0
    ended: int = 0
    kept: int = 0
    """Within both objectives."""
    late_first: int = 0
    """Whose first token came too late."""
    refused: int = 0
    """Who would have waited longer than allowed. They have ended, and not within the objectives."""
    replica_s: float = 0.0
    decisions: int = 0
    changes: list[tuple[float, int, int]] = field(default_factory=list)
    """When, from, to."""
    gpus_per_replica: int = 1
    by_hour: list[tuple[int, int, float]] = field(default_factory=list)
    """Of each hour: ended, kept, replica-seconds."""

    @property
    def attainment(self) -> float:
        return self.kept / self.ended if self.ended else 1.0

    @property
    def gpu_hours(self) -> float:
        return self.replica_s * self.gpus_per_replica / 3600

    @property
    def mean_replicas(self) -> float:
        return self.replica_s / self.seconds if self.seconds else 0.0

    @property
    def turns_per_hour(self) -> float:
        """Changes of direction: a change down after one up, or up after one down."""
        signs = [to > was for _, was, to in self.changes]
        turns = sum(one != other for one, other in pairwise(signs))
        return turns * 3600 / self.seconds if self.seconds else 0.0


Decided = Callable[[ScalingDecision], None]


class Flow:
    """The state of the deployment; `second` moves it on by one."""

    def __init__(self, service: FlowService, replicas: int) -> None:
        self.service = service
        self.now_s = 0
        self.serving = replicas
        self.wanted = replicas
        self.result = FlowResult(gpus_per_replica=service.gpus_per_replica)
        self._coming: deque[tuple[int, int]] = deque()
        self._draining: deque[tuple[float, int]] = deque()
        self._waiting: deque[tuple[int, float]] = deque()
        self._waiting_count = 0.0
        self._running = 0.0
        self._tokens = 0.0
        """Tokens that an answer under way since the begin would have."""
        self._answers: tuple[deque[tuple[float, float, float, bool]], ...] = tuple(deque() for _ in ANSWERS)
        self._lengths = [max(part * service.answer_tokens, 1.0) for part, _ in ANSWERS]
        self._step_s = service.timing.step_s
        self._arrived = 0
        self._ended = 0.0
        self._ttft: dict[int, float] = {}
        self._itl: dict[int, float] = {}
        self._hour = (0.0, 0.0, 0.0)
        self._kept = 0.0
        self._late = 0.0
        self._refused = 0.0
        self._full_per_s = service.requests_per_s()

    @property
    def coming(self) -> int:
        return sum(count for _, count in self._coming)

    def second(self, arrivals: float) -> None:
        """One second passes, in which these arrive."""
        now = self.now_s
        while self._coming and self._coming[0][0] <= now:
            self.serving += self._coming.popleft()[1]
        while self._draining and self._draining[0][0] <= now:
            self._draining.popleft()
        if arrivals:
            self._waiting.append((now, arrivals))
            self._waiting_count += arrivals
            self._arrived += int(arrivals)
        draining = sum(count for _, count in self._draining)
        if self._waiting or self._running:
            self._compute(draining)
        if self.service.wait_max_s is not None:
            self._refuse(now - self.service.wait_max_s)
        self.result.replica_s += self.serving + draining + self.coming
        self.now_s = now + 1
        self.result.seconds = self.now_s
        if self.now_s % 3600 == 0:
            self._close_hour()

    def _compute(self, draining: int) -> None:
        """Prompts first, as far as a step holds them; each answer under way a token per step."""
        timing, service = self.service.timing, self.service
        serving = self.serving
        batch = self._running / max(serving + draining, 1)
        step_s = timing.step_s + timing.step_s_per_sequence * batch
        began = 0.0
        share = 0.0
        if serving and self._waiting:
            prefill = timing.prefill_tokens_per_s
            room = max(timing.step_tokens_max - batch, 1.0)
            most = serving * room / (step_s + room / prefill) / service.prompt_tokens
            slots = serving * service.slots - self._running * serving / (serving + draining)
            # Slots come free within the second, too: as many as full replicas finish.
            began = min(self._waiting_count, most, max(slots, serving * self._full_per_s))
            share = began * service.prompt_tokens / (serving * prefill)
        stretched_s = step_s / max(1 - share, 0.01)
        self._step_s = stretched_s
        if began > 0:
            self._begin(began, share, stretched_s)
        self._tokens += 1 / stretched_s
        self._end()

    def _begin(self, count: float, share: float, step_s: float) -> None:
        """First tokens, of those that wait longest."""
        service = self.service
        own_s = service.prompt_tokens / service.timing.prefill_tokens_per_s
        # Between arrivals of one second: the wait of an M/D/1 queue for the prompts before, and half a step.
        least_s = own_s * (1 + share / (2 * max(1 - share, 0.05))) + step_s / 2
        self._waiting_count -= count
        self._running += count
        # They begin all through this second: on average in its middle.
        middle_s, middle_tokens = self.now_s + 0.5, self._tokens + 0.5 / step_s
        left = count
        waiting = self._waiting
        while left > 1e-9 and waiting:
            arrived_s, there = waiting[0]
            taken = there if there <= left else left
            left -= taken
            if taken >= there - 1e-9:
                waiting.popleft()
            else:
                waiting[0] = (arrived_s, there - taken)
            waited_s = self.now_s - arrived_s
            ttft_s = (waited_s - 0.5 if waited_s else 0.0) + least_s
            bucket = bucket_of(ttft_s)
            self._ttft[bucket] = self._ttft.get(bucket, 0.0) + taken
            in_time = ttft_s <= service.ttft_s
            if not in_time:
                self._late += taken
            for queue, length, (_, part) in zip(self._answers, self._lengths, ANSWERS, strict=True):
                queue.append((middle_tokens + length, taken * part, middle_s, in_time))

    def _refuse(self, arrived_s: int) -> None:
        """Those who came up to then."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= arrived_s:
            count = waiting.popleft()[1]
            self._waiting_count -= count
            self._refused += count
            self._ended += count

    def _end(self) -> None:
        """Answers that have all their tokens."""
        tokens = self._tokens
        itl_max_s = self.service.itl_s
        per_s = self._step_s
        for queue, length in zip(self._answers, self._lengths, strict=True):
            while queue and queue[0][0] <= tokens:
                end_tokens, count, began_s, in_time = queue.popleft()
                ended_s = self.now_s + 1 - (tokens - end_tokens) * per_s
                itl_s = max(ended_s - began_s, 0.001) / length
                self._running -= count
                self._ended += count
                bucket = bucket_of(itl_s)
                self._itl[bucket] = self._itl.get(bucket, 0.0) + count
                if in_time and itl_s <= itl_max_s:
                    self._kept += count

    def _close_hour(self) -> None:
        ended, kept, replica_s = self._hour
        self.result.by_hour.append(
            (
                round(self._ended - ended),
                round(self._kept - kept),
                self.result.replica_s - replica_s,
            )
        )
        self._hour = (self._ended, self._kept, self.result.replica_s)

    def observe(self) -> Observation:
        """As production would see it now."""
        serving = self.serving
        share = 1 / max(serving, 1)
        running = self._running * share
        at_gateways = self.service.running_max is not None
        waiting = 0.0 if at_gateways else self._waiting_count * share
        held = running * (self.service.prompt_tokens + self.service.answer_tokens / 2)
        whole_running, whole_waiting = round(running), round(waiting)
        kv_use = min(held / self.service.timing.kv_tokens, 1.0)
        # A GPU is busy while anything runs: with Poisson arrivals, all but exp(-mean) of the time.
        gpu_use = 1 - exp(-running)
        now = float(self.now_s)
        return Observation(
            now_s=now,
            wanted=self.wanted,
            serving=tuple(
                ReplicaReading(f"r{number}", now, whole_running, whole_waiting, kv_use, gpu_use)
                for number in range(serving)
            ),
            coming=self.coming,
            traffic=Traffic(
                arrived=self._arrived,
                ended=round(self._ended),
                prompt_tokens=round((self._ended - self._refused) * self.service.prompt_tokens),
                output_tokens=round((self._ended - self._refused) * self.service.answer_tokens),
                failed=round(self._refused),
                waiting=round(self._waiting_count) if at_gateways else 0,
                in_flight=round(self._running + (0.0 if at_gateways else self._waiting_count)),
                ttft=_counts(self._ttft),
                itl=_counts(self._itl),
            ),
            start_s=self.service.start_s,
        )

    def scale(self, to: int) -> None:
        """From now on so many: new ones serve after `start_s`; those that go finish what they have."""
        was = self.serving + self.coming
        self.wanted = to
        if to > was:
            self._coming.append((self.now_s + round(self.service.start_s), to - was))
            return
        fewer = was - to
        while fewer and self._coming:
            ready_s, count = self._coming.pop()
            gone = min(count, fewer)
            fewer -= gone
            if gone < count:
                self._coming.append((ready_s, count - gone))
        if fewer:
            self.serving -= fewer
            self._draining.append((self.now_s + self.service.answer_tokens * self._step_s, fewer))

    def finish(self) -> FlowResult:
        result = self.result
        result.arrived = self._arrived
        result.ended = round(self._ended)
        result.kept = round(self._kept)
        result.late_first = round(self._late)
        result.refused = round(self._refused)
        return result


def _counts(exact: dict[int, float]) -> LatencyCounts:
    return LatencyCounts({bucket: int(count) for bucket, count in exact.items()})


def flow(
    service: FlowService,
    arrivals: Iterable[float],
    autoscaler: Autoscaler,
    *,
    replicas: int,
    decided: Decided | None = None,
) -> FlowResult:
    """Run it: `arrivals` are the requests of each second."""
    state = Flow(service, replicas)
    every_s = max(round(autoscaler.every_s), 1)
    for count in arrivals:
        state.second(count)
        if state.now_s % every_s == 0:
            decision = autoscaler.decide(state.observe())
            state.result.decisions += 1
            if decided is not None:
                decided(decision)
            if decision.to != state.wanted:
                state.result.changes.append((float(state.now_s), state.wanted, decision.to))
                state.scale(decision.to)
    return state.finish()
