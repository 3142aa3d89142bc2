"""Starts an engine as `inferry up` would, probes it for a minute, and finds the constants of its speed and memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferry.cli.engine_probe_load import Shape, Taken, probes_of, take_rounds
from inferry.cli.local_model import LocalModel, read_local_model
from inferry.cli.logging_setup import log_to_file
from inferry.core.clock import SystemClock
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError
from inferry.core.replica import Endpoint
from inferry.fleet.fleet import Fleet
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.threads import cores_available
from inferry.planner.calibration import EngineCalibration
from inferry.planner.host_memory import base_bytes, host_memory_bytes
from inferry.planner.host_speed import fit_host_speed, host_model
from inferry.runtime.local import LocalRuntime
from inferry.runtime.process_memory import memory_by_group

NAME = "calibrate"
CONTEXT_TOKENS, PARALLEL = 1024, 4
SHAPES = (Shape(32, 32, 1), Shape(128, 24, 1), Shape(800, 24, 1), Shape(32, 32, 2), Shape(32, 32, PARALLEL))
ROUNDS, ROUNDS_QUICK = 5, 3
VLLM_CPU_KV_GIB = 1


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that is ready."""

    endpoint: Endpoint
    model: LocalModel
    loaded_bytes: int
    """What its processes held when it was ready; 0 where nobody can tell."""
    start_s: float


def calibrate_engine(
    engine: str,
    model: str,
    home: Path,
    environ: Mapping[str, str],
    bandwidth: float,
    *,
    quick: bool,
    say: Callable[[str], None] = lambda words: None,
) -> EngineCalibration:
    """Blocks until the engine has started, was probed and has ended; `say` is told how far it is. Raises ConfigError,
    StartFailed."""
    plan = plan_for(engine, model, home, environ)
    log_to_file(home / NAME / "events.jsonl")

    async def probe() -> tuple[Running, list[Taken]]:
        async with running(plan, home, environ) as engine_here:
            rounds = ROUNDS_QUICK if quick else ROUNDS

            def on_round(number: int) -> None:
                say(f"Ready after {engine_here.start_s:.0f} s; probing, round {number} of {rounds} ...")

            taken = await take_rounds(engine_here.endpoint, NAME, SHAPES, rounds, random.Random(1), on_round)
            return engine_here, taken

    here, taken = asyncio.run(probe())
    probes = probes_of(taken)
    arch = here.model.arch
    without_base = host_memory_bytes(
        engine,
        arch,
        here.model.weights_bytes,
        copies_bytes=here.model.copies_bytes,
        kv_tokens=CONTEXT_TOKENS * PARALLEL,
        kv_space_bytes=VLLM_CPU_KV_GIB * 1024**3,
        base=0,
    )
    return EngineCalibration(
        engine=engine,
        version=_version(plan),
        model=arch.name,
        weights=here.model.format,
        threads=cores_available(),
        wall_s=SystemClock.wall_s(),
        probes=tuple(probes),
        speed=fit_host_speed(engine, host_model(arch, here.model.weights_bytes), bandwidth, probes),
        memory_base_bytes=base_bytes(here.loaded_bytes, engine, without_base),
    )


def check_engine(engine: str) -> None:
    """Raises ConfigError."""
    if engine not in ("llamacpp", "vllm"):
        raise ConfigError(
            f"--engine {engine}: engines that can be calibrated on a CPU are llamacpp and vllm."
        )


def plan_for(
    engine: str,
    model: str,
    home: Path,
    environ: Mapping[str, str],
    *,
    context_tokens: int = CONTEXT_TOKENS,
    parallel: int = PARALLEL,
    kv_gib: int = VLLM_CPU_KV_GIB,
) -> DeploymentPlan:
    """The deployment that is probed: with the model, fetched if need be. Raises ConfigError."""
    from inferry.cli.models import rich_progress
    from inferry.cli.serving import make_serving
    from inferry.cli.weights import check_engines, fetch_models

    check_engine(engine)
    keys: dict[str, Any] = {
        "engine": engine,
        "model": model,
        "context_tokens": context_tokens,
        "parallel": parallel,
    }
    if engine == "vllm":
        keys |= {"env": {"VLLM_CPU_KVCACHE_SPACE": str(kv_gib)}, "extra_args": ["--enforce-eager"]}
    config = DeploymentFile.model_validate({"deployments": {NAME: keys}}).resolved_against(Path.cwd())
    check_engines(config, environ)
    return make_serving(config, fetch_models(config, home, environ, rich_progress())).plans[0]


@asynccontextmanager
async def running(plan: DeploymentPlan, home: Path, environ: Mapping[str, str]) -> AsyncIterator[Running]:
    """The engine of `plan` while the block runs. Raises ConfigError with the engine's last words if it does not start."""
    if plan.model_path is None:
        raise ConfigError(f"the model of engine {plan.deployment.engine} is not on this machine")
    model = read_local_model(plan.model_path)
    clock = SystemClock()
    runtime = LocalRuntime(home / NAME / "logs", environ)
    fleet = Fleet([plan], runtime, clock, random.Random(), lambda view: None, environ)
    began_s = clock.now_s()
    run = asyncio.create_task(fleet.run())
    try:
        await fleet.wait_settled()
        start_s = clock.now_s() - began_s
        failures: Sequence[str] = fleet.failures()
        view = fleet.views()[0]
        if failures or view.endpoint is None or view.pid is None:
            raise ConfigError("\n".join(failures) or "the engine did not become ready")
        held = await asyncio.to_thread(memory_by_group, {view.pid})
        yield Running(view.endpoint, model, held.get(view.pid, 0), start_s)
    finally:
        await fleet.stop()
        await run
        await runtime.close()


def _version(plan: DeploymentPlan) -> str | None:
    version = getattr(plan.deployment, "version", None)
    return version if isinstance(version, str) else None
