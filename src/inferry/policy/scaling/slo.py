"""As many replicas as keep the objectives, ahead of the load: what comes when they will serve, with some to spare for
what a forecast can't know, over what one replica carries.

How much to spare is learned from two sides. Its unit is what is seen of the traffic itself: its bursts, and how far
forecasts over a replica's start fell short. How many units is steered by the objective: a request out of the
objectives makes it more, each one within them a little less, so that in the long run as many are missed as the
objective allows (adaptive conformal inference, Gibbs and Candès, NeurIPS 2021, with requests as trials).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, sqrt

from inferry.core.scaling_settings import Scaling, ScalingSlo
from inferry.policy.scaling.decision import ReplicaCapacity, Wish
from inferry.policy.scaling.figures import told
from inferry.policy.scaling.forecast import Demand, Forecast
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.signals import Signals
from inferry.policy.scaling.slo_capacity import Carried, kept

START_S = 120.0
"""Of a replica, before one was measured."""
UNITS, UNITS_MIN, UNITS_MAX = 0.5, 0.0, 4.0
"""Of what is spared: at first, at least, at most."""
STEER = 0.02
"""So many units more for a look whose requests all missed, beyond those allowed."""
ALLOWED = 0.75
"""The share of the misses that the objective allows which is aimed for."""
DRAIN_S = 60.0
"""Requests that wait shall be served within this."""
IDLE = 0.03
"""Fewer replicas only where this much more load would fit, too: or noise would move them up and down."""


class SloSizer:
    """One per deployment. Only with `scaling.slo`."""

    def __init__(self, settings: Scaling, capacity: ReplicaCapacity | None = None) -> None:
        assert settings.slo is not None, "scaling.slo is what it keeps"
        self._slo: ScalingSlo = settings.slo
        self._start_s = settings.start_s
        self._every_s = settings.every_s
        self._forecast = Forecast(settings.every_s)
        self._carried = Carried(settings.slo, capacity)
        self._units = UNITS
        self._inputs: dict[str, float | None] = {}

    @property
    def windows_s(self) -> tuple[float, ...]:
        return self._forecast.windows_s

    @property
    def inputs(self) -> Mapping[str, float | None]:
        return self._inputs

    def wish(self, seen: Observation, signals: Signals) -> Wish:
        self._inputs = {}
        lead_s = (self._start_s or seen.start_s or START_S) + self._every_s
        demand = self._forecast.look(seen.now_s, lead_s, signals.windows)
        if demand is None or seen.traffic is None:
            why = "the gateways did not answer" if seen.traffic is None else "nothing to compare with yet"
            return Wish("slo", None, why)
        self._steer(signals)
        newest, few = (signals.windows.last(self.windows_s[number]) for number in (0, 2))
        self._carried.look(seen, newest, few)
        per_s = self._carried.per_s
        if per_s is None:
            return Wish(
                "slo",
                None,
                "what one replica carries isn't known yet: too few requests have ended, or too few of them were streams",
            )
        return self._size(seen, demand, lead_s, per_s)

    def _size(self, seen: Observation, demand: Demand, lead_s: float, per_s: float) -> Wish:
        assert seen.traffic is not None
        spare = self._units * sqrt(demand.noise**2 + demand.error**2)
        behind = self._behind(seen, per_s) / DRAIN_S
        wanted_per_s = max(demand.now, demand.ahead) * (1 + spare) + behind
        need = ceil(wanted_per_s / per_s - 1e-6)
        lower = ceil(wanted_per_s * (1 + IDLE) / per_s - 1e-6)
        self._inputs = {
            "requests_per_s": demand.now,
            "forecast_requests_per_s": demand.ahead,
            "spare_share": spare,
            "replica_requests_per_s": per_s,
        }
        to = need if need > seen.wanted else min(lower, seen.wanted)
        held = f"; {to} stay, or noise would move them" if to > need else ""
        how = f", {demand.how}" if demand.how else ""
        late = f", {told(behind)}/s to catch up" if behind > 0.01 * wanted_per_s else ""
        return Wish(
            "slo",
            to,
            f"{told(demand.ahead)} requests/s forecast in {lead_s:.0f} s (now {told(demand.now)}{how}), "
            f"{spare:.0%} to spare{late}; one replica carries {told(per_s)} ({self._carried.source}): {need}{held}",
        )

    def _behind(self, seen: Observation, per_s: float) -> float:
        """Requests that wait, but for those that are always on their way to a replica."""
        assert seen.traffic is not None
        waiting = seen.traffic.waiting + sum(each.waiting or 0 for each in seen.serving)
        return max(waiting - len(seen.serving) * per_s, 0.0)

    def _steer(self, signals: Signals) -> None:
        """Requests out of the objectives make more to spare, those within them less."""
        window = signals.windows.last(self._every_s)
        how = kept(window, self._slo) if window is not None else None
        if how is None:
            return
        missed = (1 - how.share) / (1 - self._slo.attainment)
        step = STEER * (1 - self._slo.attainment) * (missed - ALLOWED)
        self._units = min(max(self._units + step, UNITS_MIN), UNITS_MAX)
