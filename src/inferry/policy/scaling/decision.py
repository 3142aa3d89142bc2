"""What was decided, why, and by which figures: a record that explains itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from inferry.policy.scaling.observation import Observation


@dataclass(frozen=True, slots=True)
class Wish:
    """How many replicas one rule wants."""

    rule: str
    """As people know it: `rules[0] gpu_use`, `slo`, `schedule`."""
    to: int | None
    """None: it can't tell (no data), so it asks for nothing and agrees to nothing."""
    because: str


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that only tells, while it applies."""

    rule: str
    because: str


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """How many replicas from now on. `to == was`: nothing changes, and `because` says why not."""

    at_s: float
    was: int
    to: int
    rule: str
    """The one that decided; empty where none wanted a change."""
    because: str
    serving: int
    coming: int
    inputs: Mapping[str, float | None] = field(default_factory=dict)
    """The figures that were looked at, by name; None: missing or too old."""
    wishes: tuple[Wish, ...] = ()
    alerts: tuple[Alert, ...] = ()

    @property
    def is_change(self) -> bool:
        return self.to != self.was


class Autoscaler(Protocol):
    """Decides for one deployment; asked every `every_s`, in the order of time. Keeps its own memory, does no I/O."""

    @property
    def every_s(self) -> float: ...

    def decide(self, seen: Observation) -> ScalingDecision: ...


@dataclass(frozen=True, slots=True)
class ReplicaCapacity:
    """What one replica carries within the objectives, as the planner or a measurement says, for requests like
    `prompt_tokens` in and `output_tokens` out."""

    requests_per_s: float
    prompt_tokens: float
    output_tokens: float
    source: str
    """In words: `planner`, `calibration of 2026-11-01`, `file`."""
