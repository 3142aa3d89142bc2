"""Makes the runtime that the file asks for."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Mapping
from pathlib import Path

from inferry.cli.children_environ import children_environ
from inferry.cli.pods import POD_PORT, keys_of, pods_of
from inferry.core.config_file import LoadedFile
from inferry.core.errors import ConfigError
from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.ray_settings import RaySettings
from inferry.core.runtime_settings import LocalSettings
from inferry.runtime.base import Runtime
from inferry.runtime.kubernetes.access import find_access
from inferry.runtime.kubernetes.client import KubernetesClient
from inferry.runtime.kubernetes.pod_runtime import KubernetesRuntime
from inferry.runtime.local import LocalRuntime


def make_runtime(
    loaded: LoadedFile, log_dir: Path, environ: Mapping[str, str], leads: Callable[[], bool]
) -> Runtime:
    """Nothing is started or asked yet. `environ`: of this process. `leads`: whether this process decides for its fleet.

    Raises ConfigError where what it needs is not installed, or no cluster is known.
    """
    match loaded.config.runtime:
        case LocalSettings():
            return LocalRuntime(log_dir, children_environ(environ, loaded))
        case RaySettings() as settings:
            return _ray(settings, log_dir)
        case KubernetesSettings() as settings:
            return KubernetesRuntime(
                KubernetesClient(find_access(settings, environ)),
                settings,
                log_dir,
                random.Random(),
                port=POD_PORT,
                pod_spec_of=pods_of(loaded, environ),
                headers_of=keys_of(loaded),
                leads=leads,
            )


def _ray(settings: RaySettings, log_dir: Path) -> Runtime:
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("runtime.kind: 'ray' needs Ray: pip install 'inferry[ray]', here and on each node.")
    from inferry.runtime.ray.ray_runtime import RayRuntime

    return RayRuntime(settings, log_dir)
