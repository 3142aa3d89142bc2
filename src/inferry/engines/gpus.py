"""How many GPUs one replica is spread over, and which of them it sees."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.errors import ConfigError


def gpus_needed(tensor_parallel: int, pipeline_parallel: int = 1, data_parallel: int = 1) -> int:
    """Each copy of the model has its own groups of layers, and each group its own GPUs."""
    return tensor_parallel * pipeline_parallel * data_parallel


def visible_gpus(deployment_name: str, gpus: Sequence[int] | None, needed: int) -> dict[str, str]:
    """The environment that shows an engine only `gpus`; empty for all.

    Raises ConfigError when they are too few for the parallel keys of the file.
    """
    if gpus is None:
        return {}
    if len(gpus) < needed:
        raise ConfigError(
            f"deployments.{deployment_name}.gpus: {len(gpus)} named, but its parallel keys want {needed}. "
            "Name more, or lower 'tensor_parallel', 'pipeline_parallel' or 'data_parallel'."
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(str(index) for index in gpus)}
