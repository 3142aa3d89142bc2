"""What one replica carries, by the planner, for requests like those that came."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from inferry.cli.launch_foresight import Foreseer
from inferry.cli.scaling_capacity import PlannedCapacities, planned_capacity
from inferry.core.deployment_base import ManagedBase
from inferry.core.scaling_settings import ScalingSlo
from inferry.fleet.launch_notes import Foresight
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.capacity import strain
from inferry.planner.load import Load, Slo
from inferry.policy.scaling.observation import Traffic

from .test_launch_foresight import CONFIG, GPU, plan

LLAMA_8B = {
    **CONFIG, "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256,
    "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
}  # fmt: skip
SLO = {"ttft_ms": 1000, "itl_ms": 30, "attainment": 0.99}
TRAFFIC = Traffic(ended=100, prompt_tokens=100_000, output_tokens=20_000)


def model(folder: Path) -> Path:
    there = folder / "llama-8b"
    there.mkdir()
    (there / "config.json").write_text(json.dumps(LLAMA_8B))
    (there / "model.safetensors").write_bytes(b"x" * 1000)
    return there


def test_it_is_the_most_that_keeps_the_objectives(tmp_path: Path) -> None:
    """For the mean lengths of what ended, at the wanted share: a little more of it would break them, and objectives
    twice as wide allow more."""
    found = Foreseer(tmp_path, GPU).foresee(plan(model(tmp_path), context_tokens=4096))
    assert found is not None
    assert found.performance is not None
    slo = ScalingSlo.model_validate(SLO)
    one = planned_capacity(found.performance, slo, TRAFFIC)
    assert one is not None
    assert (one.prompt_tokens, one.output_tokens, one.source) == (1000, 200, "planner")
    wanted = Slo(1000, 30, 0.99)
    for share, keeps in ((0.9, True), (1.1, False)):
        load = Load(1000, 200, requests_per_s=share * one.requests_per_s)
        assert (strain(found.performance(load), load, wanted) <= 1) is keeps
    wide = planned_capacity(found.performance, ScalingSlo.model_validate(SLO | {"itl_ms": 60}), TRAFFIC)
    assert wide is not None
    assert wide.requests_per_s > one.requests_per_s
    assert planned_capacity(found.performance, ScalingSlo.model_validate({"itl_ms": 0.01}), TRAFFIC) is None


async def test_it_is_asked_once_enough_has_ended(tmp_path: Path) -> None:
    """Not before; once for the same settings; and never where the file says what a replica carries."""
    keys = {"max": 4, "slo": SLO}
    chat = plan(model(tmp_path), context_tokens=4096, scaling=keys)
    told = plan(tmp_path / "llama-8b", scaling=keys | {"slo": SLO | {"requests_per_s": 3}})
    asked: list[DeploymentPlan] = []
    known: list[str] = []
    traffic = Traffic(ended=49)

    def foresee(one: DeploymentPlan) -> Foresight | None:
        asked.append(one)
        return Foreseer(tmp_path, GPU).foresee(one)

    capacities = PlannedCapacities(lambda: [chat, told], lambda name: traffic, foresee, known.append)
    deployment = chat.deployment
    assert isinstance(deployment, ManagedBase)
    assert deployment.scaling is not None
    for traffic, times in ((Traffic(ended=49), 0), (TRAFFIC, 1), (TRAFFIC, 1)):  # noqa: B007 - the lambda reads it
        running = asyncio.create_task(capacities.run())
        async with asyncio.timeout(10):
            while len(known) < times:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        assert (len(asked), known) == (times, ["chat"] * times)
        found = capacities.of(chat, deployment.scaling)
        assert (found is not None) is bool(times)


async def test_a_fault_of_the_planner_ends_nothing(tmp_path: Path) -> None:
    """The figure may be missing; the task that asks goes on, and with it all that serves. It is asked once only."""
    chat = plan(model(tmp_path), context_tokens=4096, scaling={"max": 4, "slo": SLO})
    asked: list[DeploymentPlan] = []

    def foresee(one: DeploymentPlan) -> Foresight | None:
        asked.append(one)
        raise ValueError("not like any model")

    capacities = PlannedCapacities(lambda: [chat], lambda name: TRAFFIC, foresee, lambda name: None)
    await capacities._look_at(chat)
    await capacities._look_at(chat)
    assert asked == [chat]
