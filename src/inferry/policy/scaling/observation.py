"""What is known of a deployment at one moment, as a scaling decision sees it. Counters are raw: windows are made here,
in the policy, so that production and simulation make them alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferry.core.latency_counts import LatencyCounts


@dataclass(frozen=True, slots=True)
class ReplicaReading:
    """A replica that serves, and what its engine and GPU told last; None where they don't tell."""

    id: str
    read_s: float | None = None
    """When they were asked, on the observation's clock; None: they never told anything."""
    running: int | None = None
    waiting: int | None = None
    kv_cache_use: float | None = None
    gpu_use: float | None = None
    gpu_memory_use: float | None = None
    own: Mapping[str, float] = field(default_factory=dict)
    """The engine's own metrics that rules name, by Prometheus name."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the gateways counted of this deployment since they began, all together, and what they hold now."""

    arrived: int = 0
    """Requests that were let in, those that still wait included."""
    ended: int = 0
    """Of those, whatever became of them."""
    failed: int = 0
    """Of those, through no fault of the client's."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    waiting: int = 0
    """Requests that wait at gateways now, for a turn or for a replica."""
    in_flight: int = 0
    """Requests at replicas now."""
    ttft: LatencyCounts = field(default_factory=LatencyCounts)
    itl: LatencyCounts = field(default_factory=LatencyCounts)
    e2e: LatencyCounts = field(default_factory=LatencyCounts)


@dataclass(frozen=True, slots=True)
class Observation:
    """One look. `now_s` is a monotonic clock's; nothing here is older than is said."""

    now_s: float
    wanted: int
    """Replicas that the deployment is to have now; standby ones don't count."""
    serving: tuple[ReplicaReading, ...]
    """Those that take requests."""
    coming: int = 0
    """Those that are started, and don't serve yet: capacity on the way."""
    traffic: Traffic | None = None
    """None: the gateways did not answer."""
    week_minutes: Mapping[str, int] = field(default_factory=dict)
    """By time zone that a schedule names: minutes since Monday 00:00 there."""
    start_s: float | None = None
    """How long replicas took to start here, as measured; None: none did yet."""
    engines_tell: bool = False
    """These engines have a page of metrics: one that was not read is silent, not idle."""
    failing: str = ""
    """Why replicas don't come up, where they don't: more of them would not, either."""
