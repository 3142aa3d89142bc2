"""`inferry bench --calibrate`: what a bench measured of a deployment of this machine, noted for the planner."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from inferry.admin.run_record import running
from inferry.bench.plan import Closed, Synthetic
from inferry.bench.report import Report, ReportedRun
from inferry.cli.bench_target import Asked
from inferry.cli.launch_foresight import foreseer_here
from inferry.cli.weights import models_here
from inferry.core.clock import SystemClock
from inferry.core.config_file import load_file
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home
from inferry.engines.registry import adapter_for
from inferry.fleet.launch_journal import append_launch
from inferry.fleet.launch_notes import Foresight
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.load import Load

NOT_TAUGHT = "Nothing was noted for the planner: "


def teach(report: Report, asked: Asked) -> str:
    """What was noted, in words, or why nothing was. Never an error: the bench itself went well."""
    try:
        plan, config = _plan(asked)
        found = foreseer_here(inferry_home(os.environ), config).foresee(plan)
    except ConfigError as error:
        return f"{NOT_TAUGHT}{error.message}"
    if found is None:
        return f"{NOT_TAUGHT}the planner knows nothing of this engine, model or device."
    replicas = max(len(asked.replicas), 1)
    lines = [line for run in report.runs if (line := _note(run, found, replicas)) is not None]
    if not lines:
        return f"{NOT_TAUGHT}it learns from valid runs of --concurrency with lengths of its own choice."
    return "\n".join(["Noted for the planner (inferry calibrate --show):", *lines])


def _plan(asked: Asked) -> tuple[DeploymentPlan, DeploymentFile]:
    name = asked.deployment
    if asked.socket is None or name is None:
        raise ConfigError("this server is not run by an Inferry of this machine.")
    home = inferry_home(os.environ)
    record = next((each for each in running(home) if each.socket == asked.socket), None)
    if record is None:
        raise ConfigError("its Inferry has ended meanwhile.")
    config = load_file(Path(record.file), os.environ).config
    deployment = config.deployments.get(name)
    if deployment is None:
        raise ConfigError(f"'{name}' is no longer in {record.file}.")
    path = models_here(config, home).get(name)
    return DeploymentPlan(name, deployment, adapter_for(name, deployment), path), config


def _note(run: ReportedRun, found: Foresight, replicas: int) -> str | None:
    arrivals, workload = run.plan.arrivals, run.plan.workload
    if (
        not isinstance(arrivals, Closed)
        or not isinstance(workload, Synthetic)
        or run.validity.verdict == "invalid"
    ):
        return None
    load = Load(
        workload.input_tokens.mean,
        workload.output_tokens.mean,
        concurrency=max(arrivals.concurrency / replicas, 1.0),
    )
    summary = run.summary
    rate = summary.output_tokens_per_s
    told = {
        "ttft_ms": summary.ttft_ms.mean,
        "itl_ms": summary.tpot_ms.mean,
        "output_tokens_per_s": None if rate is None else rate / replicas,
    }
    measured = {name: value for name, value in told.items() if value}
    predicted = {name: value for name, value in found.speed(load).items() if name in measured}
    if not predicted:
        return None
    try:
        append_launch(inferry_home(os.environ), found.launch(SystemClock.wall_s(), predicted, measured))
    except OSError as error:
        return f"  can't be written: {error.strerror or error}"
    return f"  {arrivals.concurrency} at once: {_beside(predicted, measured)}"


def _beside(predicted: Mapping[str, float], measured: Mapping[str, float]) -> str:
    units = {
        "ttft_ms": ("TTFT", "ms"),
        "itl_ms": ("ITL", "ms"),
        "output_tokens_per_s": ("output", "tokens/s"),
    }
    return ", ".join(
        f"{units[name][0]} {_number(measured[name])} {units[name][1]}, predicted {_number(value)}"
        for name, value in predicted.items()
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
