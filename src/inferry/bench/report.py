"""What a report is made from: one run, several at different loads, or a search and all of its trials."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from inferry.bench.capacity import Found, Goal
from inferry.bench.plan import Closed, RunPlan
from inferry.bench.plot_scales import plain
from inferry.bench.records import Calibration, RunRecord
from inferry.bench.resilience import Resilience
from inferry.bench.summary import Summary, asked_rate
from inferry.bench.validity import Validity

GOAL_SHARE = 0.99
"""Of requests that must be good, where nobody named a share: that of `--find-capacity`, too."""
LoadUnit = Literal["per_s", "number"]
"""Requests per second, or the users of a closed loop."""


class ReportedRun(Struct, frozen=True, kw_only=True):
    plan: RunPlan
    record: RunRecord
    summary: Summary
    validity: Validity
    name: str = ""
    """Instead of its load, for runs that differ by something else: `gateway`, `direct`."""
    resilience: Resilience | None = None
    """What came of a replica that was killed or stopped on purpose."""

    @property
    def load(self) -> float | None:
        """None: its arrivals are not of one rate."""
        if isinstance(self.plan.arrivals, Closed):
            return float(self.plan.arrivals.concurrency)
        return asked_rate(self.plan.arrivals)

    @property
    def load_unit(self) -> LoadUnit:
        return "number" if isinstance(self.plan.arrivals, Closed) else "per_s"

    @property
    def title(self) -> str:
        if self.name or self.load is None:
            return self.name or "the run"
        return load_text(self.load, self.load_unit)


class Capacity(Struct, frozen=True, kw_only=True):
    """What a search came to."""

    goal: Goal
    found: Found


class Report(Struct, frozen=True, kw_only=True):
    runs: tuple[ReportedRun, ...]
    """In the order in which they were made. At least one."""
    capacity: Capacity | None = None
    calibration: Calibration | None = None
    environment: dict[str, str] = {}
    """Facts of the machine that sent, by name."""

    @property
    def loads(self) -> tuple[float, ...]:
        """The different loads, if the runs are a sweep; empty: they are one run, or differ by name."""
        loads = {run.load for run in self.runs if run.load is not None}
        named = any(run.name for run in self.runs)
        same_unit = len({run.load_unit for run in self.runs}) == 1
        return tuple(sorted(loads)) if len(loads) > 1 and same_unit and not named else ()

    @property
    def main(self) -> ReportedRun:
        """The run that the page is about: of a search one at the highest load that surely holds, and rather one that
        shows it; of a sweep one at the highest load that was good enough, or the lightest; else the last."""
        if self.capacity is not None and self.capacity.found.low:
            limit, share = self.capacity.found.low * 1.001, self.capacity.goal.share
            below = [run for run in reversed(self.runs) if (run.load or 0.0) <= limit]
            valid = [run for run in below if run.validity.verdict != "invalid"]
            # A trial that the client spoiled was made again, and one that failed by chance may have been.
            held = [run for run in valid if (run.summary.goodput.share or 0.0) >= share]
            return self._heaviest(held or valid or below) or self.runs[-1]
        if self.loads:
            held = [run for run in self.runs if (run.summary.goodput.share or 0.0) >= GOAL_SHARE]
            return self._heaviest(held) or min(self.runs, key=lambda run: run.load or 0.0)
        return self.runs[-1]

    @staticmethod
    def _heaviest(runs: list[ReportedRun]) -> ReportedRun | None:
        return max(runs, key=lambda run: run.load or 0.0, default=None)


def load_text(load: float, unit: LoadUnit) -> str:
    """`12.5 requests/s`, `1 user`."""
    if unit == "per_s":
        return f"{plain(load)} request{'' if load == 1 else 's'}/s"
    return f"{plain(load)} user{'' if load == 1 else 's'}"
