"""A policy that says by itself how many replicas it takes, beside the rules: what FileAutoscaler asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from inferry.policy.scaling.decision import Wish
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.signals import Signals


class Sizer(Protocol):
    """Asked once per look, in the order of time; keeps its own memory."""

    @property
    def windows_s(self) -> tuple[float, ...]:
        """The lengths of the windows that it will ask `signals.windows.last()` for."""
        ...

    def wish(self, seen: Observation, signals: Signals) -> Wish:
        """How many it wants; `to` None where it can't tell, which keeps everybody from going down."""
        ...

    @property
    def inputs(self) -> Mapping[str, float | None]:
        """The figures that the last wish rests on, by name with unit."""
        ...
