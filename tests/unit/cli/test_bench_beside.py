"""The same load at two places, in turns."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from inferry.bench.energy import Energy
from inferry.bench.plan import RunPlan, Target
from inferry.bench.report import ReportedRun
from inferry.cli.bench_beside import DIRECT, run_both
from tests.unit.bench.made_up_runs import made_up_run

RUN = made_up_run(5.0, 5.0)
MEASURED = replace(RUN, summary=replace(RUN.summary, energy=Energy(gpus=1, power_w=300.0)))


@pytest.mark.parametrize(("other", "is_watched"), [("there:1", False), (DIRECT, True)])
async def test_another_place_has_not_this_ones_power(other: str, is_watched: bool) -> None:
    """What this place's engines and GPUs said stays off the runs elsewhere; an engine that is asked directly is one of them."""

    async def run_once(plan: RunPlan, name: str) -> ReportedRun:
        return replace(MEASURED, plan=plan)

    target = Target(base_url="http://there:1/v1", model="m")
    runs = await run_both(RUN.plan, ("here", other), target, run_once)
    assert [run.name for run in runs] == ["here", other, other, "here"]
    for run in runs:
        has_view = run.name == "here" or is_watched
        assert (run.summary.energy is not None, bool(run.record.samples)) == (has_view, has_view)
