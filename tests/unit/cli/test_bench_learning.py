"""What a bench teaches the planner: figures of valid runs, beside what was predicted for the same load."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from inferry.bench.plan import Closed, Lengths, Poisson, Synthetic
from inferry.bench.report import Report, ReportedRun
from inferry.bench.validity import Validity
from inferry.cli import bench_learning
from inferry.cli.bench_target import Asked
from inferry.fleet.launch_journal import read_launches
from inferry.fleet.launch_notes import Foresight
from tests.unit.bench.made_up_runs import made_up_run

ASKED = Asked("http://127.0.0.1:1/v1", "chat", None, deployment="chat", socket="/nowhere")
FORESIGHT = Foresight(
    "llamacpp", "EPYC", "smol",
    speed=lambda load: {"itl_ms": 10.0 * (load.concurrency or 0), "ttft_ms": load.input_tokens},
)  # fmt: skip


def closed(verdict: Any = "valid", arrivals: Any = None) -> ReportedRun:
    """Four at once, 100 tokens in and 50 out on average."""
    run = made_up_run(40.0, 10.0)
    shape = Synthetic(input_tokens=Lengths(mean=100), output_tokens=Lengths(mean=50))
    plan = replace(run.plan, arrivals=arrivals or Closed(4), workload=shape)
    return replace(run, plan=plan, validity=Validity(verdict=verdict))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the deployment is one that the planner foresees."""
    monkeypatch.setenv("INFERRY_HOME", str(tmp_path))
    monkeypatch.setattr(bench_learning, "_plan", lambda asked: (None, None))
    foreseer = SimpleNamespace(foresee=lambda plan: FORESIGHT)
    monkeypatch.setattr(bench_learning, "foreseer_here", lambda home, config: foreseer)
    return tmp_path


def test_a_valid_run_is_noted(home: Path) -> None:
    """Its means, with the prediction for the load of one replica; what was not predicted is not compared."""
    said = bench_learning.teach(Report(runs=(closed(),)), ASKED)
    [noted] = read_launches(home)
    assert noted.predicted == {"itl_ms": 40.0, "ttft_ms": 100.0}
    assert noted.measured["ttft_ms"] > 0
    assert (noted.engine, noted.device, noted.model) == ("llamacpp", "EPYC", "smol")
    assert "4 at once" in said
    assert "predicted 40" in said


def test_what_can_t_be_compared_is_not_noted(home: Path) -> None:
    """Invalid runs, and arrivals of which nobody knows how many are there at once."""
    runs = (closed("invalid"), closed(arrivals=Poisson(3.0)))
    assert "valid runs of --concurrency" in bench_learning.teach(Report(runs=runs), ASKED)
    assert read_launches(home) == []


def test_others_servers_teach_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL, and an instance that has ended, are told in words; the bench is none the worse."""
    monkeypatch.setenv("INFERRY_HOME", str(tmp_path))
    report = Report(runs=(closed(),))
    assert "not run by an Inferry" in bench_learning.teach(report, Asked("http://h/v1", "m", None))
    assert "has ended meanwhile" in bench_learning.teach(report, ASKED)
