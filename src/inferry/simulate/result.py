"""What came of a simulation. Every figure here is simulated; the same run gives the same bytes."""

from __future__ import annotations

import msgspec


class Percentiles(msgspec.Struct, frozen=True):
    """In milliseconds, each to within 0.5 %; None: nothing was counted."""

    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    mean_ms: float | None = None
    """Exact."""


class SimulatedDecision(msgspec.Struct, frozen=True, omit_defaults=True):
    """A scaling decision that changed something, or an alert that began."""

    at_s: float
    was: int
    to: int
    rule: str
    because: str
    alerts: tuple[str, ...] = ()


class Interval(msgspec.Struct, frozen=True):
    """Of the timeline: counts of what happened in it, and the state at its end."""

    begin_s: float
    arrivals: int
    completed: int
    failed: int
    rejected: int
    in_flight: int
    waiting: int
    serving: int
    coming: int
    wanted: int
    ttft_p90_ms: float | None
    """Of those that ended in it."""
    attainment: float | None
    """Share of those that arrived in it that were answered within the objectives."""


class ServiceResult(msgspec.Struct, frozen=True):
    """Of one deployment."""

    deployment: str
    requests: int
    completed: int
    failed: dict[str, int]
    """By error code."""
    rejected: dict[str, dict[str, int]]
    """By tenant, and error code."""
    under_way: int
    """When the simulation ended."""
    late_under_way: int
    """Of those, who can't be within the objectives any more."""
    duration_s: float
    prompt_tokens: int
    answer_tokens: int
    """Of requests that were answered in whole."""
    in_slo: int
    attainment: float | None
    """Of all requests that are over, those that failed or were rejected included, and of `late_under_way`; None: no
    objectives."""
    goodput_per_s: float | None
    """Requests within the objectives, per second of `duration_s`."""
    ttft: Percentiles
    itl: Percentiles
    e2e: Percentiles
    queue: Percentiles
    """Waits at gateways, of requests that had their turn."""
    gpu_hours: float
    """From each replica's start to its end, loading and draining included."""
    replica_hours: float
    mean_replicas: float
    cost: float
    hit_ratio: float | None
    """Share of the prompts' tokens that needed no computing; None: no prompt was computed."""
    preemptions: int
    retries: int
    resumes: int
    crashes: int
    set_aside: int
    """Times that a gateway kept requests from a replica."""
    failures_missed: int
    """Of those that were planned, who found no such replica that served, or came after the end."""
    decisions: list[SimulatedDecision]
    direction_changes_per_hour: float
    """Changes from more replicas to fewer, or back."""
    by_tenant: dict[str, int]
    """Answer tokens of completed requests."""
    timeline: list[Interval]


class Result(msgspec.Struct, frozen=True):
    """Of one run."""

    seed: int
    gateways: int
    interval_s: float
    services: list[ServiceResult]
    simulated: bool = True

    @property
    def only(self) -> ServiceResult:
        """Of a run with one deployment."""
        (result,) = self.services
        return result

    def to_json(self) -> bytes:
        return msgspec.json.encode(self)
