"""Pods of a deployment, where no Deployment object describes them yet: as `inferry engines command --pod` shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inferry.cli.engines_choice import choose_loaded
from inferry.cli.engines_forms import ContainerWishes, container_form
from inferry.core.config_file import LoadedFile
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.launch import Headers
from inferry.engines.pod import pod

POD_PORT = 8000
"""Where engines listen in their pods; rendered ones do as well."""


def pods_of(loaded: LoadedFile, environ: Mapping[str, str]) -> Callable[[str], Mapping[str, Any] | None]:
    """By deployment, the spec of its pod; None: its engine has no image of its own, so somebody else must describe it."""

    def spec_of(name: str) -> Mapping[str, Any] | None:
        try:
            form = container_form(
                choose_loaded(loaded, name), POD_PORT, Path("/inferry") / name, environ, ContainerWishes()
            )
        except ConfigError:
            return None
        spec: Mapping[str, Any] = pod(form.plan, form.probes)["spec"]
        return spec

    return spec_of


def keys_of(loaded: LoadedFile) -> Callable[[str], Headers]:
    """By deployment, the headers with the key that its engines ask for."""

    def headers_of(name: str) -> Headers:
        deployment = loaded.config.deployments.get(name)
        key = deployment.api_key if isinstance(deployment, ManagedBase) else None
        return () if key is None else (("Authorization", f"Bearer {key.get_secret_value()}"),)

    return headers_of
