"""Azure's two hours of 2023, ten times as many requests in the same time, request by request.

As they are, one replica or two would do. Each request comes ten times, each within a minute from when it came: the
course of the minutes stays, and the ten are ten users. The first minute, into which copies come from no minute before,
and the last, in which only late ones come, are left out: that fall and rise is the copying's, not the traffic's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.scaling.policies import policies
from benchmarks.scaling.scenes import STEP_TOKENS, TTFT_S, Scene, slots_of
from benchmarks.scaling.trials import cheapest
from inferry.core.gateway_settings import Queue
from inferry.core.scaling_settings import ScalingSlo
from inferry.policy.scaling.decision import Autoscaler
from inferry.simulate.arrivals import Arrival, read_trace
from inferry.simulate.experiment import run
from inferry.simulate.flow import FlowService
from inferry.simulate.result import ServiceResult
from inferry.simulate.rivals.oracle import Oracle
from inferry.simulate.rivals.static import Static
from inferry.simulate.service import Service
from inferry.simulate.timing import EngineTiming

HOURS = {"conversations": "azure_llm_2023_conv.csv.gz", "code": "azure_llm_2023_code.csv.gz"}
ITLS_S = {"conversations": 0.1, "code": 0.3}
"""Code's answers are of 28 tokens beside prompts of 2,048: nobody reads along, and others' prompts are most of a step."""
COPIES = 10
SPREAD_S = 60.0
PEAK_S = 60
STEP_SHARE = 0.6
ATTAINMENT = 0.99
MARGINS, MARGIN_STEP = {"conversations": (0.9, 1.7), "code": (0.9, 4.1)}, 0.0065
"""Where the oracle's margin is looked for. Wider than for the flow: single lengths differ, and code's bursts are
shorter than the minutes that its schedule is made of."""


def azure_hours(traces: Path) -> dict[str, Any]:
    return {name: _hour(traces / file, name) for name, file in HOURS.items()}


def _hour(path: Path, name: str) -> dict[str, Any]:
    arrivals = _whole_minutes(path)
    prompt = sum(each.prompt_tokens for each in arrivals) / len(arrivals)
    answer = sum(each.answer_tokens for each in arrivals) / len(arrivals)
    itl_s = ITLS_S[name]
    timing = EngineTiming(step_tokens_max=STEP_TOKENS)
    slots = slots_of(timing, prompt, answer, STEP_SHARE * itl_s)
    scene = Scene(
        name, path.name, FlowService(timing, prompt, answer, TTFT_S, itl_s, running_max=slots, wait_max_s=1)
    )
    minutes = [0] * (int(arrivals[-1].at_s) // PEAK_S + 1)
    for each in arrivals:
        minutes[int(each.at_s) // PEAK_S] += 1
    peak = ceil(max(minutes) / PEAK_S / scene.per_s)
    cases: dict[str, Callable[[], Autoscaler]] = {"static, for the busiest minute": lambda: Static(peak)}
    cases |= {policy.name: partial(policy.make, scene) for policy in policies() if policy.documented}
    found: dict[str, Any] = {}

    def served(make: Callable[[], Autoscaler], first: int) -> ServiceResult:
        service = Service(
            timing=timing,
            replicas=first,
            queue=Queue(running_max=slots, wait_max_s=1.0, waiting_max=10**6),
            autoscaler=make,
            slo=ScalingSlo(ttft_ms=TTFT_S * 1000, itl_ms=itl_s * 1000),
        )
        return run([service], arrivals, until_s=len(minutes) * PEAK_S).only

    def scheduled(wanted: list[int]) -> tuple[ServiceResult, float, float]:
        result = served(lambda: Oracle(wanted), wanted[0])
        return result, result.attainment or 0.0, result.mean_replicas

    settings, least = cheapest(
        _by_second(arrivals, len(minutes) * PEAK_S),
        scene.per_s,
        scheduled,
        attainment=ATTAINMENT,
        start_s=timing.start_s,
        margins=MARGINS[name],
        step=MARGIN_STEP,
    )
    found["oracle"] = _told(name, "oracle", least, least, peak) | {"settings": settings}
    for case, make in cases.items():
        first = peak if case.startswith("static") else max(ceil(1.2 * minutes[0] / PEAK_S / scene.per_s), 1)
        found[case] = _told(name, case, served(make, first), least, peak)
    return found


def _told(name: str, case: str, result: ServiceResult, least: ServiceResult, peak: int) -> dict[str, Any]:
    facts = {
        "attainment": result.attainment,
        "mean_replicas": result.mean_replicas,
        "of_static": result.mean_replicas / peak,
        "over_oracle": result.mean_replicas / least.mean_replicas,
    }
    print(name, case, facts, flush=True)
    return facts


def _whole_minutes(path: Path) -> list[Arrival]:
    """Without the first minute and the last, and from 0 on."""
    copied = sorted(_copied(path), key=lambda each: each.at_s)
    end_s = copied[-1].at_s - SPREAD_S
    return [
        Arrival(at_s=each.at_s - SPREAD_S, prompt_tokens=each.prompt_tokens, answer_tokens=each.answer_tokens)
        for each in copied
        if SPREAD_S <= each.at_s < end_s
    ]


def _by_second(arrivals: Iterable[Arrival], seconds: int) -> list[int]:
    counts = [0] * seconds
    for each in arrivals:
        counts[int(each.at_s)] += 1
    return counts


def _copied(path: Path) -> Iterator[Arrival]:
    rng = Random(0)
    for each in read_trace(path):
        for _ in range(COPIES):
            yield Arrival(
                at_s=each.at_s + rng.random() * SPREAD_S,
                prompt_tokens=each.prompt_tokens,
                answer_tokens=each.answer_tokens,
            )
