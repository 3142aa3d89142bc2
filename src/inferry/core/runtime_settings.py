"""The deployment file's `runtime:`: on which machines replicas run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.ray_settings import RaySettings
from inferry.core.section import Section


class LocalSettings(Section):
    """Replicas are processes of this machine."""

    kind: Literal["local"] = "local"


RUNTIME_TYPES: dict[str, type[Section]] = {
    "local": LocalSettings,
    "ray": RaySettings,
    "kubernetes": KubernetesSettings,
}
"""By what `kind` says."""
RuntimeSettings = Annotated[LocalSettings | RaySettings | KubernetesSettings, Field(discriminator="kind")]
