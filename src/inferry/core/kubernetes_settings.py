"""The deployment file's `runtime: {kind: kubernetes}`: which cluster, and who scales there."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from inferry.core.section import Section

_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class KubernetesSettings(Section):
    """Replicas are pods: one Deployment object for each deployment, named PREFIX-NAME."""

    kind: Literal["kubernetes"]
    namespace: str | None = Field(
        None,
        pattern=_NAME,
        description="Where the pods are. Left out: the gateway's own inside a cluster, else that of the kubeconfig's context.",
    )
    prefix: str = Field(
        "inferry",
        pattern=r"^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$",
        description="Names begin with it, and pods carry it as app.kubernetes.io/instance.",
    )
    kubeconfig: Path | None = Field(
        None,
        description="How to reach the cluster from outside. Left out: $KUBECONFIG or ~/.kube/config; inside a cluster the "
        "service account's token, always.",
    )
    context: str | None = Field(
        None, min_length=1, description="Of the kubeconfig. Left out: its current one."
    )
    scaled_by: Literal["inferry", "others"] = Field(
        "inferry",
        description="`others`: an autoscaler of the cluster (HPA, KEDA) sets spec.replicas, and Inferry only follows.",
    )
    keep: bool = Field(
        True,
        description="Pods stay when the gateway ends, and the next gateway goes on with them. false: they end with it.",
    )
    lease: str | None = Field(
        None,
        pattern=_NAME,
        description="Gateways with the same name here take turns in deciding, by a Lease object of this name. Left out: "
        "this one always decides.",
    )
    pod_start_timeout_s: float = Field(
        900.0,
        ge=1,
        le=86400,
        description="For a pod to be scheduled, its image to be pulled and its container to run; loading comes after "
        "that. Then the start counts as failed and the restart policy says when to try again.",
    )

    def resolved_against(self, folder: Path) -> KubernetesSettings:
        """The same, with the path of the kubeconfig made absolute below `folder`."""
        if self.kubeconfig is None:
            return self
        return self.model_copy(update={"kubeconfig": (folder / self.kubeconfig.expanduser()).absolute()})
