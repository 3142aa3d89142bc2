"""A trace, replayed on simulated replicas behind real balancers; and the figures of that. All simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inferry.core.load_traces import TracedRequest
from inferry.policy.routing import Balancer
from inferry.simulate.fleet import SimulatedFleet
from inferry.simulate.replica_request import SimulatedRequest
from inferry.simulate.timeline import Timeline
from inferry.simulate.timing import EngineTiming


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it, on simulated replicas."""

    hit_ratio: float
    """Share of the prompts' tokens that were cached where they went."""
    imbalance: float
    """Most prompt tokens that one replica had to compute, to the mean."""
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    took_s: float
    """From the first arrival to the last end."""
    arrivals_s: float
    """From the first to the last arrival."""


def replay(
    trace: Sequence[TracedRequest],
    *balancers: Balancer,
    replicas: int = 8,
    speed: float = 1.0,
    timing: EngineTiming | None = None,
) -> Replay:
    """`balancers`: one per gateway process. `speed`: how many times as fast as they did the requests come."""
    timeline = Timeline()
    fleet = SimulatedFleet(balancers, replicas, EngineTiming() if timing is None else timing, timeline)
    fleet.expect(trace, speed)
    timeline.run()
    return _figures(fleet.requests, [each.uncached_tokens for each in fleet.replicas], timeline.now_s)


def _figures(requests: Sequence[SimulatedRequest], computed: Sequence[int], took_s: float) -> Replay:
    ttfts_s = sorted(request.ttft_s for request in requests)
    return Replay(
        hit_ratio=sum(each.cached_tokens for each in requests) / sum(each.prompt_tokens for each in requests),
        imbalance=max(computed) * len(computed) / sum(computed),
        ttft_p50_s=quantile(ttfts_s, 0.5),
        ttft_p90_s=quantile(ttfts_s, 0.9),
        ttft_p99_s=quantile(ttfts_s, 0.99),
        took_s=took_s,
        arrivals_s=requests[-1].arrival_s,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them are not above."""
    return ordered[max(-int(-share * len(ordered) // 1), 1) - 1]


def hit_ratio_bound(trace: Sequence[TracedRequest], block_tokens: int = 512) -> float:
    """What one cache without bounds that all replicas share would have had: no routing gets more."""
    seen: set[int] = set()
    cached = 0
    for request in trace:
        known = 0
        for block in request.blocks:
            if block not in seen:
                break
            known += 1
        seen.update(request.blocks)
        cached += min(known * block_tokens, max(request.prompt_tokens - 1, 0))
    return cached / sum(request.prompt_tokens for request in trace)


def saturation_speed(
    trace: Sequence[TracedRequest],
    balancer: Balancer,
    *,
    replicas: int = 8,
    timing: EngineTiming | None = None,
) -> float:
    """The speed at which requests would come as fast as a fleet that never waits for any gets them done.

    Everything arrives at once, and how long that takes is compared with the trace's own duration.
    """
    at_once = replay(trace, balancer, replicas=replicas, speed=float("inf"), timing=timing)
    return trace[-1].at_s / at_once.took_s
