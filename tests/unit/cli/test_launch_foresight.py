"""What is predicted of a launch, on a CPU and on a GPU, by the deployment's own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferry.cli.launch_foresight import Foreseer
from inferry.cli.launch_setup import setup_of
from inferry.cli.local_model import read_local_model
from inferry.core.deployment import DeploymentFile
from inferry.engines.registry import adapter_for
from inferry.fleet.calibration_file import write_calibration
from inferry.fleet.launch_journal import append_launch
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.calibration import Calibration, EngineCalibration, Fingerprint, Rates, Reading
from inferry.planner.facts.device_catalog import find_device
from inferry.planner.host_memory import VLLM_CPU_BASE_BYTES
from inferry.planner.host_speed import HostSpeed
from inferry.planner.learning import Launch
from inferry.planner.load import Load
from inferry.planner.memory import plan_memory

CPU = Fingerprint("EPYC", 2, 2**34)
GPU = Fingerprint("EPYC", 2, 2**34, ("NVIDIA H100 80GB HBM3",), "570")
WEIGHTS_BYTES = 5000
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of the Hugging Face kind."""
    there = tmp_path / "llama-tiny"
    there.mkdir()
    (there / "config.json").write_text(json.dumps(CONFIG))
    (there / "model.safetensors").write_bytes(b"x" * WEIGHTS_BYTES)
    return there


def plan(folder: Path, **keys: Any) -> DeploymentPlan:
    written = {"engine": "vllm", "model": f"file:{folder}", **keys}
    deployment = DeploymentFile.model_validate({"deployments": {"chat": written}}).deployments["chat"]
    return DeploymentPlan("chat", deployment, adapter_for("chat", deployment), folder)


def test_a_gpu_launch_is_foreseen_as_planned(folder: Path) -> None:
    """Weights and KV tokens are those of the planner for the deployment's own settings, under the catalog's name of the
    GPU and the hub's name of the model."""
    asked = plan(folder, model="hf:org/Llama-Tiny@main", memory_fraction=0.5, context_tokens=256)
    found = Foreseer(folder, GPU).foresee(asked)
    assert found is not None
    model = read_local_model(folder)
    setup = setup_of(asked.deployment, model.arch)
    assert setup is not None
    memory = plan_memory(model.arch, find_device("h100-80g"), setup)
    assert (setup.memory_fraction, setup.max_model_tokens) == (0.5, 256)
    assert found.predicted == {
        "weights_bytes": memory.weights,
        "kv_tokens": memory.kv_tokens,
        "rest_bytes": memory.budget - memory.kv,
        "loaded_bytes": WEIGHTS_BYTES,
    }
    assert (found.setup, found.weights) == (setup, "bf16")
    assert (found.device, found.model, found.family) == ("h100-80g", "org/Llama-Tiny", "llama")
    at_one, at_eight = (found.speed(Load(256, 128, concurrency=at_once)) for at_once in (1, 8))
    assert 0 < at_one["itl_ms"] <= at_eight["itl_ms"]


def test_a_cpu_launch_is_foreseen_by_its_kv_space(folder: Path) -> None:
    """vLLM on a CPU: weights, the cache that it is told to take, and the program; no speed before a calibration."""
    found = Foreseer(folder, CPU).foresee(plan(folder, env={"VLLM_CPU_KVCACHE_SPACE": "2"}))
    assert found is not None
    assert found.predicted == {
        "memory_bytes": WEIGHTS_BYTES + 2 * 1024**3 + VLLM_CPU_BASE_BYTES,
        "loaded_bytes": WEIGHTS_BYTES,
    }
    assert found.speed(Load(128, 128, concurrency=1)) == {}
    unset = Foreseer(folder, CPU).foresee(plan(folder))
    assert unset is not None
    assert set(unset.predicted) == {"loaded_bytes"}


def test_a_calibration_and_launches_are_used(folder: Path, tmp_path: Path) -> None:
    """After a calibration there is a speed; after launches, what is expected differs from what is predicted."""
    speed = HostSpeed(4e10, 3e-4, 2e10, 9e10, 0.8, 2e10, 1e11, 6e10, 0.01)
    engine = EngineCalibration("vllm", None, "other", "bf16", 2, 1e9, (), speed, 1_000_000)
    rates = Rates(Reading(4e10, 0.01, 15), {})
    write_calibration(
        tmp_path, Calibration(host=CPU, wall_s=1e9, cpu=rates, others_busy=0.0, engines=(engine,))
    )
    append_launch(
        tmp_path,
        Launch(
            wall_s=1e9, engine="vllm", device="EPYC", model="llama-tiny", family="llama", weights="bf16",
            predicted={"memory_bytes": 1e9, "loaded_bytes": 1000.0}, measured={"memory_bytes": 1.2e9, "start_s": 3.0},
        ),
    )  # fmt: skip
    found = Foreseer(tmp_path, CPU).foresee(plan(folder, env={"VLLM_CPU_KVCACHE_SPACE": "1"}))
    assert found is not None
    assert found.predicted["memory_bytes"] == WEIGHTS_BYTES + 1024**3 + 1_000_000
    assert found.expected["memory_bytes"] == pytest.approx(1.18 * found.predicted["memory_bytes"], rel=0.01)
    assert found.expected["start_s"] == WEIGHTS_BYTES / (1000.0 / 3.0)
    assert set(found.speed(Load(128, 128, concurrency=1))) == {"ttft_ms", "itl_ms", "output_tokens_per_s"}


def test_what_is_unknown_is_not_foreseen(folder: Path, tmp_path: Path) -> None:
    """A GPU that the catalog lacks, a folder without a config, an engine without a memory model: no guess."""
    odd = Fingerprint("EPYC", 2, 2**34, ("Voodoo 2",), "1")
    assert Foreseer(tmp_path, odd).foresee(plan(folder)) is None
    assert Foreseer(tmp_path, CPU).foresee(plan(tmp_path)) is None
    assert Foreseer(tmp_path, GPU).foresee(plan(folder, engine="tgi")) is None
