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


RuntimeSettings = Annotated[LocalSettings | RaySettings | KubernetesSettings, Field(discriminator="kind")]
