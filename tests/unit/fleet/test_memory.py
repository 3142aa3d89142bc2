"""What a model's weights, a process group and a file of deployments need of the machine's memory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from inferry.core.errors import ConfigError
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.engines.registry import adapter_for
from inferry.fleet.memory_need import MemoryNeeds, NeedSource, check_budget, weights_size
from inferry.fleet.memory_watch import watch_memory
from inferry.fleet.plan import DeploymentPlan
from inferry.runtime.process_memory import memory_by_group

from .fakes import until

GIB = 2**30
MIB = 2**20


def plan(name: str, path: Path | None = None, **keys: object) -> DeploymentPlan:
    deployment = SimulatedDeployment.model_validate({"engine": "simulated", **keys})
    return DeploymentPlan(name, deployment, adapter_for(name, deployment), path)


def by_name(*plans: DeploymentPlan) -> dict[str, DeploymentPlan]:
    return {each.name: each for each in plans}


def test_the_size_of_weights(tmp_path: Path) -> None:
    """A file's own; of a folder, the files of one format only, safetensors before others; without files, nothing."""
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"x" * 100)
    assert weights_size(gguf) == 100
    (tmp_path / "a.safetensors").write_bytes(b"x" * 10)
    (tmp_path / "b.safetensors").write_bytes(b"x" * 20)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 30)
    assert weights_size(tmp_path) == 30
    assert weights_size(tmp_path / "missing") == 0
    assert weights_size(None) == 0


def test_measured_after_weights_and_forgotten_with_them(tmp_path: Path) -> None:
    """What was measured of one model says nothing of the next under the same name."""
    first, second = tmp_path / "1.gguf", tmp_path / "2.gguf"
    first.write_bytes(b"x" * 100)
    second.write_bytes(b"x" * 200)
    needs = MemoryNeeds()
    assert needs.of(plan("a", first)).source is NeedSource.WEIGHTS
    needs.measured(plan("a", first), 500)
    assert (needs.of(plan("a", first)).need_bytes, needs.of(plan("a", first, replicas=3)).need_bytes) == (
        500,
        1500,
    )
    assert needs.of(plan("a", second)).need_bytes == 200
    needs.measured(plan("a", second), 300)
    assert needs.of(plan("a", second)).need_bytes == 300


def test_a_file_that_can_never_work_is_refused() -> None:
    """Too much that is always loaded; a model that is larger than what is left; one of unknown size."""
    check_budget(None, by_name(plan("a", load="on_demand")))
    check_budget(8 * GIB, by_name(plan("a", memory="6GiB"), plan("b", load="on_demand", memory="2GiB")))
    too_small = r"always loaded \(a\): they need 10.0 GiB, which is 2.0 GiB more than the 8.0 GiB"
    with pytest.raises(ConfigError, match=too_small):
        check_budget(8 * GIB, by_name(plan("a", memory="5GiB", standby=1)))
    with pytest.raises(ConfigError, match=r"deployments.b can never be loaded: it needs 3.0 GiB"):
        check_budget(8 * GIB, by_name(plan("a", memory="6GiB"), plan("b", load="on_demand", memory="3GiB")))
    with pytest.raises(ConfigError, match=r"deployments.b.memory: .* nobody knows"):
        check_budget(8 * GIB, by_name(plan("b", load="on_demand")))


def test_weights_that_are_yet_to_come_are_not_judged() -> None:
    """What a model needs is known once its weights are here: until then nobody must say it."""
    check_budget(8 * GIB, by_name(plan("b", load="on_demand")), to_fetch={"b"})


def test_all_that_does_not_fit_is_told_at_once() -> None:
    """Each deployment that can't be loaded has its line."""
    plans = by_name(*(plan(name, load="on_demand", memory="9GiB") for name in "ab"))
    with pytest.raises(ConfigError) as caught:
        check_budget(8 * GIB, plans)
    assert [line.partition(" can")[0] for line in caught.value.message.splitlines()] == [
        "deployments.a",
        "deployments.b",
    ]


def test_what_a_process_group_holds() -> None:
    """At least the 64 MiB that this process has touched; nothing is said of groups without a process."""
    ballast = bytearray(os.urandom(MIB)) * 64
    held = memory_by_group([os.getpgrp(), 2**22 + 1])
    assert set(held) == {os.getpgrp()}
    assert held[os.getpgrp()] >= len(ballast)


def test_without_proc_nothing_is_measured(tmp_path: Path) -> None:
    """macOS, say; and a process that ends while it is looked at is left out."""
    assert memory_by_group([1], tmp_path / "missing") == {}
    (tmp_path / "77").mkdir()
    assert memory_by_group([1], tmp_path) == {}


async def test_ready_replicas_are_measured() -> None:
    """With their process's number, and only where deployments load on demand."""
    needs = MemoryNeeds()
    plans = [plan("a", load="on_demand"), plan("b")]

    def view(name: str, pid: int, state: ReplicaState) -> ReplicaView:
        return ReplicaView(f"{name}-0", name, "simulated", True, state, None, 0.0, 0, pid=pid)

    views = [view("a", 7, ReplicaState.READY), view("b", 8, ReplicaState.STARTING)]
    task = asyncio.create_task(
        watch_memory(needs, lambda: plans, lambda: views, lambda groups: dict.fromkeys(groups, 5 * GIB), 0.01)
    )
    await until(lambda: needs.of(plans[0]).source is NeedSource.MEASURED)
    task.cancel()
    assert needs.of(plans[0]).need_bytes == 5 * GIB
    assert needs.of(plans[1]).source is NeedSource.UNKNOWN
