"""Makes the runtime that the file asks for."""

from __future__ import annotations

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
            raise ConfigError("runtime.kind: 'ray' is not here yet.")
        case _:
            raise ConfigError("runtime.kind: 'kubernetes' is not here yet.")
