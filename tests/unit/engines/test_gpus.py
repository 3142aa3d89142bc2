"""Which GPUs each replica's engine sees."""

from __future__ import annotations

from typing import Any

import pytest

from inferry.core.errors import ConfigError
from inferry.core.server_engines import ServerBase, SglangDeployment, TransformersDeployment, VllmDeployment
from inferry.engines.gpus import visible_gpus


def vllm(**keys: Any) -> VllmDeployment:
    return VllmDeployment.model_validate({"engine": "vllm", "model": "hf:o/m", **keys})


def seen(deployment: ServerBase, seats: int) -> list[str]:
    return [
        visible_gpus("chat", deployment, seat).get("CUDA_VISIBLE_DEVICES", "all") for seat in range(seats)
    ]


def test_each_replica_has_gpus_of_its_own() -> None:
    """Where the named ones are enough for several; a seat beyond them shares the first."""
    deployment = vllm(gpus=[4, 5, 6, 7], tensor_parallel=2)
    assert deployment.gpu_seats == 2
    assert seen(deployment, 3) == ["4,5", "6,7", "4,5"]


def test_too_few_for_two_are_seen_by_all() -> None:
    """Three GPUs have room for one replica of two: whoever named them meant all three. Not named: all of the host's."""
    assert seen(vllm(gpus=[0, 1, 2], tensor_parallel=2, replicas=2), 2) == ["0,1,2", "0,1,2"]
    assert seen(vllm(replicas=2), 2) == ["all", "all"]


def test_all_parallel_keys_count() -> None:
    """Layers shared, groups of layers and copies of the model each multiply what a replica wants."""
    keys = {"tensor_parallel": 2, "pipeline_parallel": 2, "data_parallel": 2, "gpus": list(range(16))}
    sglang = SglangDeployment.model_validate({"engine": "sglang", "model": "hf:o/m", **keys})
    assert seen(sglang, 2) == ["0,1,2,3,4,5,6,7", "8,9,10,11,12,13,14,15"]


def test_transformers_spreads_over_all() -> None:
    """It has no parallel keys: it takes what it sees."""
    deployment = TransformersDeployment.model_validate(
        {"engine": "transformers", "model": "hf:o/m", "gpus": [0, 1]}
    )
    assert seen(deployment, 2) == ["0,1", "0,1"]


def test_fewer_than_one_replica_wants() -> None:
    """The error names the key, both numbers and what to change."""
    with pytest.raises(ConfigError, match=r"deployments\.chat\.gpus: 1 named, but its parallel keys want 2"):
        visible_gpus("chat", vllm(gpus=[0], tensor_parallel=2), 0)
