"""What is promised for each deployment: how soon, and how often. From its own `scaling` where that says something."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inferry.core.deployment import DeploymentFile
from inferry.core.scaling_settings import ScalingRule

SUCCESS_SHARE = 0.995
"""Of the requests that an engine was asked to answer. The file has no key for it."""


@dataclass(frozen=True, slots=True)
class Objective:
    """So large a share of the streams stays within the limit."""

    limit_s: float
    share: float
    because: str


@dataclass(frozen=True, slots=True)
class LatencyMetric:
    """A latency that is watched: what the rules call it, and where it is counted."""

    key: str
    """As in `scaling.slo`, without its unit."""
    histogram: str
    default: Objective


TTFT = LatencyMetric(
    "ttft",
    "inferry_time_to_first_token_seconds",
    Objective(
        5.0, 0.95, "the file says nothing of it, and who waits longer for a first word thinks that it hangs"
    ),
)
ITL = LatencyMetric(
    "itl",
    "inferry_inter_token_latency_seconds",
    Objective(0.25, 0.95, "the file says nothing of it, and people read about four words a second"),
)
LATENCIES = (TTFT, ITL)


def objectives(config: DeploymentFile, metric: LatencyMetric) -> dict[str, Objective]:
    """One for each deployment."""
    return {name: _objective(deployment, metric) for name, deployment in config.deployments.items()}


def _objective(deployment: object, metric: LatencyMetric) -> Objective:
    scaling = getattr(deployment, "scaling", None)  # endpoints of others have none
    if scaling is None:
        return metric.default
    if scaling.slo is not None:
        limit_ms = getattr(scaling.slo, f"{metric.key}_ms")
        if limit_ms is not None:
            return Objective(limit_ms / 1000, scaling.slo.attainment, "scaling.slo says so")
    found = [
        (limit, rule.share) for rule, limit in _limits(scaling.rules) if rule.metric == f"{metric.key}_ms"
    ]
    if not found:
        return metric.default
    limit_ms, share = min(found)
    # A percentile below the median, or the worst of ten thousand, is no promise that a budget can be made of.
    return Objective(limit_ms / 1000, min(0.9999, max(0.5, share)), "a rule of scaling keeps it")


def _limits(rules: Iterable[ScalingRule]) -> Iterable[tuple[ScalingRule, float]]:
    for rule in rules:
        limit = rule.above if rule.target is None else rule.target
        if limit is not None:
            yield rule, limit
