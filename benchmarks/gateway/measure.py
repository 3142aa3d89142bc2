"""One round of one contender: a plain phase, a latency phase, short streams, long streams."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks.gateway.contenders import Running
from benchmarks.gateway.cores import Cores
from benchmarks.gateway.figures import Sample, per_request_us, per_token_us
from benchmarks.gateway.processes import Memory, cpu_s, memory
from benchmarks.gateway.tools import Load, LoadResult, Tools, Upstream, run_load


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much load. The streams' rate is chosen to keep every contender well below saturation."""

    requests: int = 10000
    connections: int = 32
    streams: int = 200
    short_tokens: int = 20
    long_tokens: int = 220
    interval_us: int = 10000
    latency_s: float = 1.0


QUICK = Sizes(requests=3000, long_tokens=70, latency_s=0.5)
SLOW = Sizes(
    requests=200, connections=8, streams=4, short_tokens=10, long_tokens=90, interval_us=20000, latency_s=3.0
)
"""For LiteLLM, which needs hundreds of times as long, and breaks a stream off at its 100th equal chunk."""


@dataclass(slots=True)
class Lane:
    """A contender in the course of the rounds."""

    running: Running
    sizes: Sizes
    serving: list[int]
    before: Memory
    before_control: Memory
    rate_per_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def control(self) -> list[int]:
        return [pid for pid in self.running.pids() if pid not in self.serving]


def open_lane(running: Running, sizes: Sizes) -> Lane:
    found = running.serving_pids()
    control = [pid for pid in running.pids() if pid not in found]
    return Lane(running, sizes, found, memory(found), memory(control))


@dataclass(frozen=True, slots=True)
class _Phase:
    cpu_s: float
    control_s: float
    result: LoadResult


class Bench:
    """What all phases need."""

    def __init__(self, tools: Tools, cores: Cores, upstream: Upstream) -> None:
        self.tools = tools
        self.cores = cores
        self.upstream = upstream

    def warm_up(self, lane: Lane) -> None:
        """The first round: thrown away, but for the rate that the latency phases take half of."""
        phase = self._phase(lane, self._plain(lane))
        lane.rate_per_s = phase.result.requests / phase.result.wall_s / 2
        self._streams(lane, lane.sizes.short_tokens)

    def round(self, lane: Lane) -> None:
        """Adds one sample to the lane, or a failure."""
        sizes = lane.sizes
        before = len(lane.failures)
        plain = self._phase(lane, self._plain(lane))
        timed = Load(
            sizes.connections * 4, max(20, int(lane.rate_per_s * sizes.latency_s)), None, lane.rate_per_s
        )
        direct = run_load(self.tools, self.cores, self.upstream.ports[0], {}, timed)
        through = self._phase(lane, timed)
        short = self._streams(lane, sizes.short_tokens)
        long = self._streams(lane, sizes.long_tokens)
        if len(lane.failures) > before:
            return
        between = (sizes.streams, sizes.short_tokens, sizes.long_tokens)
        lane.samples.append(
            Sample(
                request_us=per_request_us(plain.cpu_s, sizes.requests),
                control_request_us=per_request_us(plain.control_s, sizes.requests),
                half_load_request_us=per_request_us(through.cpu_s, timed.requests),
                token_us=per_token_us(short.cpu_s, long.cpu_s, *between),
                control_token_us=per_token_us(short.control_s, long.control_s, *between),
                short_stream_us=per_request_us(short.cpu_s, sizes.streams),
                requests_per_s=sizes.requests / plain.result.wall_s,
                busy=plain.cpu_s / plain.result.wall_s,
                token_busy=long.cpu_s / long.result.wall_s,
                added_p50_us=through.result.p50_us - direct.p50_us,
                added_p99_us=through.result.p99_us - direct.p99_us,
                direct_p99_us=direct.p99_us,
            )
        )

    def _plain(self, lane: Lane) -> Load:
        return Load(lane.sizes.connections, lane.sizes.requests)

    def _streams(self, lane: Lane, tokens: int) -> _Phase:
        self.upstream.set_interval_us(lane.sizes.interval_us)
        return self._phase(lane, Load(lane.sizes.streams, lane.sizes.streams, tokens))

    def _phase(self, lane: Lane, load: Load) -> _Phase:
        control = lane.control
        requests = self.upstream.requests()
        cpu, control_cpu = cpu_s(lane.serving), cpu_s(control)
        result = run_load(self.tools, self.cores, lane.running.port, lane.running.headers, load)
        time.sleep(0.02)  # what a proxy does after the last byte is its cost too
        phase = _Phase(cpu_s(lane.serving) - cpu, cpu_s(control) - control_cpu, result)
        if result.failed:
            lane.failures.append(
                f"{result.failed} of {load.requests} answers were not whole: {result.first_failure}"
            )
        shares = [after - before for before, after in zip(requests, self.upstream.requests(), strict=True)]
        if sum(shares) >= 50 and min(shares) < 0.2 * sum(shares):
            lane.failures.append(f"did not use both endpoints: {shares[0]} and {shares[1]} requests")
        return phase
