"""Sharing the cores out."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.engines.registry import adapter_for
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.threads import cores_available, share_threads


def plan(name: str, replicas: int, **fields: object) -> DeploymentPlan:
    deployment = LlamaCppDeployment.model_validate(
        {"engine": "llamacpp", "model": "file:/m.gguf", "replicas": replicas, **fields}
    )
    return DeploymentPlan(name, deployment, adapter_for(name, deployment))


def test_cores_are_shared_over_all_replicas() -> None:
    """Eight cores over three replicas are two threads each; no replica gets none."""
    plans = [plan("a", 2), plan("b", 1)]
    assert share_threads(plans, 8) == {"a": 2, "b": 2}
    assert share_threads(plans, 1) == {"a": 1, "b": 1}


def test_what_the_file_says_comes_first() -> None:
    """A replica with a number of its own keeps it, and the others share what is left."""
    assert share_threads([plan("a", 1, threads=6), plan("b", 1)], 8) == {"a": 6, "b": 2}
    assert share_threads([plan("a", 2, threads=6), plan("b", 1)], 8) == {"a": 6, "b": 1}


def test_others_take_no_cores() -> None:
    """Replicas on a GPU and simulated ones leave the cores to those that compute on them."""
    simulated = SimulatedDeployment(engine="simulated", replicas=9)
    plans = [
        plan("gpu", 3, gpu_layers=99),
        plan("cpu", 2),
        DeploymentPlan("sim", simulated, adapter_for("sim", simulated)),
    ]
    assert share_threads(plans, 8) == {"gpu": 4, "cpu": 4, "sim": 1}


@pytest.mark.parametrize(
    ("text", "cores_max"), [("100000 100000\n", 1), ("50000 100000\n", 1), ("max 100000\n", 4096)]
)
def test_a_containers_quota_counts(tmp_path: Path, text: str, cores_max: int) -> None:
    """A container that may use one core gets one thread, however many cores the machine shows."""
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    assert 1 <= cores_available(quota) <= cores_max
    assert cores_available(tmp_path / "missing") >= 1
