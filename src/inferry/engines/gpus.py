"""Which GPUs the engine of one replica sees."""

from __future__ import annotations

from inferry.core.deployment import Deployment
from inferry.core.errors import ConfigError
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.server_engines import OllamaDeployment, ServerBase, TransformersDeployment

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def gpus_needed(deployment: Deployment) -> int:
    """GPUs that a machine must have free for one replica."""
    match deployment:
        case ServerBase(gpus=[]) | OllamaDeployment(gpus=[]) | TransformersDeployment(device="cpu"):
            return 0
        case ServerBase():
            return deployment.gpus_per_replica
        case OllamaDeployment():
            return deployment.gpu_count
        case LlamaCppDeployment(gpu_layers=int(layers)) if layers:
            return 1
        case _:
            return 0


def visible_gpus(deployment_name: str, deployment: ServerBase, seat: int) -> dict[str, str]:
    """The environment that shows an engine its GPUs; empty for all. `seat`: the replica's place among those that have
    GPUs of their own.

    Raises ConfigError when those of the file are too few for its parallel keys.
    """
    gpus, needed, seats = deployment.gpus, deployment.gpus_per_replica, deployment.gpu_seats
    if gpus is None:
        return {}
    if len(gpus) < needed:
        raise ConfigError(
            f"deployments.{deployment_name}.gpus: {len(gpus)} named, but its parallel keys want {needed}. "
            "Name more, or lower 'tensor_parallel', 'pipeline_parallel' or 'data_parallel'."
        )
    if seats > 1:
        first = seat % seats * needed
        gpus = gpus[first : first + needed]
    return {VISIBLE_GPUS: ",".join(str(index) for index in gpus)}
