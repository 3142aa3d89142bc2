"""Makes the runtime that the file asks for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError
from inferry.core.ray_settings import RaySettings
from inferry.core.runtime_settings import LocalSettings
from inferry.runtime.base import Runtime
from inferry.runtime.local import LocalRuntime


def make_runtime(config: DeploymentFile, log_dir: Path, environ: Mapping[str, str]) -> Runtime:
    """Nothing is started or asked yet. Raises ConfigError where what it needs is not installed."""
    match config.runtime:
        case LocalSettings():
            return LocalRuntime(log_dir, environ)
        case RaySettings():
            return _ray(config.runtime, log_dir)
        case _:
            raise ConfigError("runtime.kind: 'kubernetes' is not here yet.")


def _ray(settings: RaySettings, log_dir: Path) -> Runtime:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("runtime.kind: 'ray' needs Ray: pip install 'inferry[ray]', here and on each node.")
    from inferry.runtime.ray.ray_runtime import RayRuntime

    return RayRuntime(settings, log_dir)
