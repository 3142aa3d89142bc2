"""`inferry bench --compare`: the same load at two places, in turns: A B B A, so that what drifts hits both alike."""

from __future__ import annotations

import os

from msgspec.structs import replace

from inferry.bench.plan import RunPlan, Target
from inferry.bench.report import ReportedRun
from inferry.bench.sweep import RunOnce
from inferry.cli.bench_target import Asked, checked_url, only_model
from inferry.core.errors import ConfigError

DIRECT = "direct"
ENGINE_KEY = "INFERRY_BENCH_ENGINE_KEY"
"""In this process's environment and its children's alone: the secret that opens an engine of ours."""
TURNS = (0, 1, 1, 0)
_TIMEOUT_S = 10.0


def beside(wanted: str, asked: Asked, target: Target) -> tuple[tuple[str, str], Target]:
    """Names for the two places, the second one's target. Raises ConfigError with the way out."""
    if wanted == DIRECT:
        return ("gateway", DIRECT), _engine(asked, target)
    url = checked_url(wanted, target.api, name="--compare")
    other = replace(target, base_url=url)
    if url == target.base_url:
        raise ConfigError(f"--compare {wanted}: is TARGET itself.")
    return (_host(target.base_url), _host(url)), other


async def run_both(
    plan: RunPlan, names: tuple[str, str], other: Target, run_once: RunOnce
) -> tuple[ReportedRun, ...]:
    """Two runs at each place; the first two ask the same prompts, and the last two."""
    runs = []
    for number, place in enumerate(TURNS):
        turn = replace(plan, seed=plan.seed + number // 2, target=other if place else plan.target)
        run = await run_once(turn, f"{names[place]}, {number + 1} of {len(TURNS)}")
        if place and names[place] != DIRECT:
            run = _without_engines(run)
        runs.append(replace(run, name=names[place]))
        if run.record.stopped_early:
            break
    return tuple(runs)


def _without_engines(run: ReportedRun) -> ReportedRun:
    """Without what the first place's engines and GPUs said meanwhile: it is not about this one."""
    record, summary = replace(run.record, samples=()), replace(run.summary, energy=None)
    return replace(run, record=record, summary=summary)


def _engine(asked: Asked, target: Target) -> Target:
    if asked.deployment is None or asked.socket is None:
        raise ConfigError(
            "--compare direct: is for a deployment of the Inferry that runs here. For a server elsewhere, write the URL "
            "of its engine: --compare http://HOST:PORT/v1"
        )
    import httpx

    transport = httpx.HTTPTransport(uds=asked.socket)
    try:
        with httpx.Client(transport=transport, base_url="http://control", timeout=_TIMEOUT_S) as client:
            every = client.get("/endpoints").raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise ConfigError(
            f"The Inferry that runs here does not say where its engines listen: {error}."
        ) from error
    ready = [each for each in every if each["deployment"] == asked.deployment]
    if len(ready) != 1:
        raise ConfigError(
            f"--compare direct: {asked.deployment} has {len(ready)} replicas that are ready, and one engine beside a gateway "
            f"over several says nothing. Make it one: inferry scale {asked.deployment} 1"
        )
    [engine] = ready
    others = {name for name in engine["headers"] if name.lower() != "authorization"}
    if engine["query"] or others:
        raise ConfigError(
            f"--compare direct: {engine['url']} wants more than a key; it can't be asked directly."
        )
    variable = None
    if key := engine["headers"].get("Authorization", "").removeprefix("Bearer "):
        os.environ[ENGINE_KEY], variable = key, ENGINE_KEY
    known_here = asked.model == asked.deployment
    model = only_model(engine["url"], variable) if known_here else asked.model
    return replace(target, base_url=engine["url"], key_variable=variable, model=model)


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]
