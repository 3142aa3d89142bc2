"""The models of a deployment file, on this machine before an engine starts."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from inferry.cli.engines_model import what_is_wrong
from inferry.core.clock import SystemClock
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError
from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.model_ref import parse_model_ref
from inferry.core.server_engines import ServerBase
from inferry.engines.adapter import LaunchableAdapter, LaunchContext
from inferry.engines.registry import adapter_for
from inferry.models.progress import Progress
from inferry.models.pull import pull
from inferry.models.store import ModelStore

WITH_WEIGHTS = (LlamaCppDeployment, ServerBase)
"""Deployments whose `model` is a source of Inferry's store."""


def check_engines(config: DeploymentFile, environ: Mapping[str, str]) -> None:
    """What would fail in every replica is said once, before anything is fetched or started: programs that are not
    here, arguments that their versions don't know."""
    if runs_in_pods(config):
        return  # their images have what they need
    embedded = [
        f"deployments.{name}"
        for name, deployment in config.deployments.items()
        if isinstance(deployment, LlamaCppDeployment)
        and deployment.binary is None
        and not deployment.runs_elsewhere
    ]
    if embedded and importlib.util.find_spec("xllamacpp") is None:
        raise ConfigError(
            f"{', '.join(embedded)}: the embedded llama.cpp is not installed. Install it with: "
            "pip install 'inferry[local]' (in a clone: make setup, or make up) - or name a llama-server in 'binary'."
        )
    problems = []
    for name, deployment in config.deployments.items():
        adapter = adapter_for(name, deployment)
        if isinstance(adapter, LaunchableAdapter):
            try:
                adapter.launch(_somewhere(adapter.served_name), environ)
            except ConfigError as error:
                problems.append(error.message)
    if problems:
        raise ConfigError("\n".join(problems))


def runs_in_pods(config: DeploymentFile) -> bool:
    """Engines and their weights are in pods, and nothing of them need be on this machine."""
    return isinstance(config.runtime, KubernetesSettings)


def _somewhere(served_name: str) -> LaunchContext:
    return LaunchContext(
        replica_id="replica-0",
        host="127.0.0.1",
        port=1,
        model_path=Path("/model"),
        served_name=served_name,
        threads=1,
        secret="none",
    )


def models_here(config: DeploymentFile, home: Path) -> dict[str, Path | None]:
    """The local path of each deployment's weights, as far as they are here already."""
    if runs_in_pods(config):
        return {}
    store = ModelStore(home)
    found = {
        name: store.find(parse_model_ref(deployment.model))
        for name, deployment in config.deployments.items()
        if isinstance(deployment, WITH_WEIGHTS) and not deployment.runs_elsewhere
    }
    return {name: stored.path for name, stored in found.items() if stored is not None}


def fetch_models(
    config: DeploymentFile, home: Path, environ: Mapping[str, str], progress: Progress
) -> dict[str, Path | None]:
    """The local path of each deployment's weights, fetched where they are missing. Blocks; raises ConfigError."""
    if runs_in_pods(config):
        return {}
    store = ModelStore(home)
    paths: dict[str, Path | None] = {}
    for name, deployment in config.deployments.items():
        if not isinstance(deployment, WITH_WEIGHTS) or deployment.runs_elsewhere:
            continue
        ref = parse_model_ref(deployment.model)
        try:
            stored = pull(ref, store, progress=progress, environ=environ, clock=SystemClock())
        except ConfigError as error:
            raise type(error)(f"deployments.{name}.model: {error.message}") from error
        if isinstance(deployment, ServerBase):
            # These engines find out late, and in words about files that nobody has written down.
            wrong = what_is_wrong(deployment.engine, stored.path)
            if wrong is not None:
                raise ConfigError(f"deployments.{name}.model: {wrong[0]}: {wrong[1]}.")
        paths[name] = stored.path
    return paths
