"""Who decides: ours, its rules, and others' laws, each with what its documents give and with what tuning found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from benchmarks.scaling.scenes import MAX, Scene
from inferry.core.scaling_settings import Amount, Scaling, ScalingRule, ScalingSlo
from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.decision import Autoscaler, ReplicaCapacity
from inferry.policy.scaling.slo import SloSizer
from inferry.simulate.rivals.hpa import Hpa, queue_depth, requests_held
from inferry.simulate.rivals.knative import Kpa
from inferry.simulate.rivals.llm_d import LLM_D, LlmD

Make = Callable[[Scene], Autoscaler]


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    make: Make
    family: str
    documented: bool = False
    """With what its documents give; otherwise one that tuning tries."""


def ours(scene: Scene, attainment: float = 0.99) -> Autoscaler:
    service = scene.service
    settings = Scaling(
        max=MAX,
        slo=ScalingSlo(ttft_ms=service.ttft_s * 1000, itl_ms=service.itl_s * 1000, attainment=attainment),
    )
    capacity = ReplicaCapacity(scene.per_s, service.prompt_tokens, service.answer_tokens, "planner")
    return FileAutoscaler(settings, slo=SloSizer(settings, capacity))


def table(scene: Scene, one: Amount = 1, two: Amount = 2) -> Autoscaler:
    """The field's table of rules; its `max` of 10 would be far too few here, and its latency is that
    of first tokens: whole answers take longer than 2 s at any load."""
    rules = [
        ScalingRule(metric="gpu_use", above=0.8, for_s=300, add=one),
        ScalingRule(metric="gpu_use", below=0.3, for_s=600, remove=one),
        ScalingRule(metric="queue_depth", above=50, add=two),
        ScalingRule(metric="ttft_ms", above=2000, add=one),
        ScalingRule(metric="error_rate", above=0.05, alert=True),
    ]
    return FileAutoscaler(Scaling(min=2, max=MAX, rules=rules))


def _slots(scene: Scene) -> int:
    return scene.service.slots


def _hpa_queue(scene: Scene, target: float) -> Autoscaler:
    return Hpa(queue_depth, target, high=MAX)


def _hpa_held(scene: Scene, share: float) -> Autoscaler:
    return Hpa(requests_held, share * _slots(scene), high=MAX)


def _kpa(scene: Scene, utilization: float, down_delay_s: float) -> Autoscaler:
    return Kpa(_slots(scene), utilization=utilization, down_delay_s=down_delay_s, high=MAX)


def _llm_d(scene: Scene, low: float, high: float, down_share: float) -> Autoscaler:
    behavior = replace(LLM_D, down_share=down_share)
    return LlmD(scene.service.ttft_s, scene.service.itl_s, high=MAX, band=(low, high), behavior=behavior)


def policies() -> list[Policy]:
    found = [
        Policy("SLO policy", ours, "ours", documented=True),
        Policy("field's table of rules", table, "table", documented=True),
        Policy("table, amounts 5 % and 10 %", partial(table, one="5%", two="10%"), "table"),
        Policy("HPA on queue depth, 1 each", partial(_hpa_queue, target=1.0), "HPA queue", documented=True),
        Policy(
            "HPA on requests held, 16 each",
            lambda scene: Hpa(requests_held, 16, high=MAX),
            "HPA held",
            documented=True,
        ),
        Policy("KPA, 70 %", partial(_kpa, utilization=0.7, down_delay_s=0.0), "KPA", documented=True),
        Policy(
            "llm-d's law, 0.40 to 0.55",
            partial(_llm_d, low=0.40, high=0.55, down_share=0.0),
            "llm-d",
            documented=True,
        ),
    ]
    found += [
        Policy(f"HPA on queue depth, {target:g} each", partial(_hpa_queue, target=target), "HPA queue")
        for target in (0.1,)
    ]
    found += [
        Policy(f"HPA on requests held, {share:.0%}", partial(_hpa_held, share=share), "HPA held")
        for share in (0.7, 0.8, 0.85, 0.9, 0.95)
    ]
    found += [
        Policy(
            f"KPA, {utilization:.0%}, down after {delay:g} s",
            partial(_kpa, utilization=utilization, down_delay_s=delay),
            "KPA",
        )
        for utilization in (0.7, 0.8, 0.9)
        for delay in (0.0, 300.0)
    ]
    found += [
        Policy(
            f"llm-d's law, {low:.2f} to {high:.2f}, down {share:.0%}",
            partial(_llm_d, low=low, high=high, down_share=share),
            "llm-d",
        )
        for low, high in ((0.40, 0.55), (0.45, 0.55), (0.50, 0.60), (0.55, 0.62))
        for share in (0.1, 1.0)
    ]
    return found


def ours_by_attainment() -> Mapping[float, Make]:
    """For the curve on the plot."""
    return {share: partial(ours, attainment=share) for share in (0.95, 0.98, 0.99, 0.995, 0.999)}
