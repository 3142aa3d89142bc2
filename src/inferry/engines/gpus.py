"""Which GPUs the engine of one replica sees."""

from __future__ import annotations

from inferry.core.errors import ConfigError
from inferry.core.server_engines import ServerBase


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
    return {"CUDA_VISIBLE_DEVICES": ",".join(str(index) for index in gpus)}
