"""Does the flow tell the truth? The same hours request by request, under the same policies."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.scaling.policies import Policy
from benchmarks.scaling.scenes import Scene
from benchmarks.scaling.trials import trial
from inferry.core.gateway_settings import Queue
from inferry.core.scaling_settings import ScalingSlo
from inferry.simulate.arrivals import Arrival
from inferry.simulate.arrivals_drawn import exponential, lognormal
from inferry.simulate.arrivals_servegen import read_rates, servegen
from inferry.simulate.experiment import run
from inferry.simulate.service import Service

PROMPT_CV = 0.8
HOURS = ((36, 37, 0.2), (36, 37, 0.05))
"""Of m-large and m-small: from, to, and the share of the requests that is simulated, one by one."""


def arrivals_of(
    scene: Scene, traces: Path, *, begin_s: float, end_s: float, thin: float
) -> Iterator[Arrival]:
    """Part of the trace, from 0 on; prompts are lognormal (cv 0.8), answers exponential."""
    service = scene.service
    return servegen(
        read_rates(traces / scene.file),
        prompt=lognormal(service.prompt_tokens, PROMPT_CV),
        answer=exponential(service.answer_tokens),
        thin=thin,
        begin_s=begin_s,
        end_s=end_s,
    )


def both(
    scene: Scene, policy: Policy, traces: Path, *, begin_s: float, end_s: float, thin: float
) -> dict[str, Any]:
    """Attainment and GPU-hours of each, on the very same arrivals."""
    facts = scene.service
    counts = [0] * ceil(end_s - begin_s)
    for each in arrivals_of(scene, traces, begin_s=begin_s, end_s=end_s, thin=thin):
        counts[int(each.at_s)] += 1
    replicas = max(ceil(1.2 * sum(counts[:60]) / 60 / scene.per_s), 1)
    flowed = trial(scene, counts, policy.make(scene), replicas)
    service = Service(
        timing=facts.timing,
        replicas=replicas,
        queue=Queue(running_max=facts.slots, wait_max_s=float(facts.wait_max_s or 3600), waiting_max=10**6),
        autoscaler=lambda: policy.make(scene),
        gpus_per_replica=facts.gpus_per_replica,
        slo=ScalingSlo(ttft_ms=facts.ttft_s * 1000, itl_ms=facts.itl_s * 1000),
    )
    arrivals = arrivals_of(scene, traces, begin_s=begin_s, end_s=end_s, thin=thin)
    result = run([service], arrivals, until_s=end_s - begin_s).only
    return {
        "policy": policy.name,
        "requests": result.requests,
        "flow": {"attainment": flowed.attainment, "mean_replicas": flowed.mean_replicas},
        "by_request": {
            "attainment": result.attainment,
            "mean_replicas": result.mean_replicas,
            "ttft_p99_ms": result.ttft.p99_ms,
            "itl_p99_ms": result.itl.p99_ms,
            "rejected": sum(sum(codes.values()) for codes in result.rejected.values()),
            "direction_changes_per_hour": result.direction_changes_per_hour,
        },
    }
