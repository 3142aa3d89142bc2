"""The deployment file's types: what to serve, on what, for whom and how well.

Seconds, bytes and tokens are in the names. Every number has bounds, and every default says why. Reading the
YAML text, environment references and error wording are in core/config_file.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from inferry.core.backup_settings import Backup
from inferry.core.deployment_base import DeploymentBase, ManagedBase
from inferry.core.facts_settings import Facts
from inferry.core.gateway_settings import Admin, Gateway, Ledger, Tenant
from inferry.core.host_settings import Host
from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.core.public_names import PublicNames, leads_to
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.runtime_settings import LocalSettings, RuntimeSettings
from inferry.core.section import Section
from inferry.core.server_engines import (
    OllamaDeployment,
    SglangDeployment,
    TensorRtLlmDeployment,
    TgiDeployment,
    TransformersDeployment,
    VllmDeployment,
)

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_TENANT = re.compile(r"[\w.@-]{1,64}", re.ASCII)

Deployment = Annotated[
    LlamaCppDeployment
    | OllamaDeployment
    | OpenAIDeployment
    | SglangDeployment
    | SimulatedDeployment
    | TensorRtLlmDeployment
    | TgiDeployment
    | TransformersDeployment
    | VllmDeployment,
    Field(discriminator="engine"),
]
ManagedDeployment = (
    LlamaCppDeployment
    | OllamaDeployment
    | SglangDeployment
    | SimulatedDeployment
    | TensorRtLlmDeployment
    | TgiDeployment
    | TransformersDeployment
    | VllmDeployment
)

ENGINE_TYPES: dict[str, type[DeploymentBase]] = {
    "llamacpp": LlamaCppDeployment,
    "ollama": OllamaDeployment,
    "openai": OpenAIDeployment,
    "sglang": SglangDeployment,
    "simulated": SimulatedDeployment,
    "tensorrt-llm": TensorRtLlmDeployment,
    "tgi": TgiDeployment,
    "transformers": TransformersDeployment,
    "vllm": VllmDeployment,
}


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"'{value}' can't be a deployment's name: use small letters, digits and . _ - (63 at most); "
            "other names for clients go into 'aliases'"
        )
    return value


def _tenant(value: str) -> str:
    if not _TENANT.fullmatch(value):
        raise ValueError(f"'{value}' can't be a tenant's name: use letters, digits and . _ - @ (64 at most)")
    return value


class DeploymentFile(Section):
    """The whole of `inferry.yaml`."""

    gateway: Gateway = Field(default_factory=lambda: Gateway())
    admin: Admin = Field(default_factory=lambda: Admin())
    ledger: Ledger = Field(default_factory=lambda: Ledger())
    host: Host = Field(default_factory=lambda: Host())
    backup: Backup | None = Field(
        None, description="Copies of file, keys and ledger. Left out: none are made."
    )
    facts: Facts = Field(default_factory=lambda: Facts())
    runtime: RuntimeSettings = Field(
        default_factory=lambda: LocalSettings(), description="On which machines replicas run."
    )
    tenants: dict[Annotated[str, AfterValidator(_tenant)], Tenant] = Field(
        default_factory=dict, max_length=100_000, description="By name; keys name their tenant."
    )
    deployments: dict[Annotated[str, AfterValidator(_name)], Deployment] = Field(
        min_length=1, max_length=1000, description="By name; clients send the name as `model`."
    )
    names: PublicNames = Field(
        default_factory=dict,
        max_length=1000,
        description="More names that clients may send as `model`, each for several deployments.",
    )

    @model_validator(mode="after")
    def _names_are_clear(self) -> DeploymentFile:
        leads_to(self.deployments)
        return self

    @model_validator(mode="after")
    def _keys_are_needed(self) -> DeploymentFile:
        in_pods = isinstance(self.runtime, KubernetesSettings)
        for name, each in self.deployments.items():
            if (
                isinstance(each, ManagedBase)
                and each.endpoints is None
                and each.api_key is not None
                and not in_pods
            ):
                raise ValueError(
                    f"deployments.{name}: 'api_key' needs 'endpoints' (or 'runtime: {{kind: kubernetes}}'): engines that "
                    "Inferry starts itself get a key of their own"
                )
        return self

    @model_validator(mode="after")
    def _one_says_who_leads(self) -> DeploymentFile:
        if isinstance(self.runtime, KubernetesSettings) and self.runtime.lease and self.host.fleet:
            raise ValueError(
                f"'runtime.lease' ({self.runtime.lease}) and 'host.fleet' ({self.host.fleet}) both say who decides: keep one"
            )
        return self

    @model_validator(mode="after")
    def _filters_are_clear(self) -> DeploymentFile:
        for name, deployment in self.deployments.items():
            taken: set[str] = set()
            for each in (*self.gateway.filters, *deployment.filters):
                if each.name in taken:
                    raise ValueError(f"two filters of '{name}' have the name '{each.name}'")
                taken.add(each.name)
                if each.guard is not None and each.guard not in self.deployments:
                    raise ValueError(
                        f"the filter '{each.name}' asks the guard '{each.guard}': no such deployment"
                    )
        return self

    def resolved_against(self, folder: Path) -> DeploymentFile:
        """The same, with every relative path in it made absolute below `folder`."""
        deployments = {
            name: deployment.resolved_against(folder) for name, deployment in self.deployments.items()
        }
        everywhere = [each.resolved_against(folder) for each in self.gateway.filters]
        gateway = self.gateway.model_copy(update={"filters": everywhere})
        admin = self.admin
        if gateway.tls is not None:
            gateway = gateway.model_copy(update={"tls": gateway.tls.resolved_against(folder)})
        if admin.tls is not None:
            admin = admin.model_copy(update={"tls": admin.tls.resolved_against(folder)})
        facts = self.facts.resolved_against(folder)
        runtime = self.runtime
        if isinstance(runtime, KubernetesSettings):
            runtime = runtime.resolved_against(folder)
        backup = None if self.backup is None else self.backup.resolved_against(folder)
        return self.model_copy(
            update={
                "deployments": deployments,
                "gateway": gateway,
                "admin": admin,
                "facts": facts,
                "backup": backup,
                "runtime": runtime,
            }
        )
