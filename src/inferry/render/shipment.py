"""What is shipped: the deployment file with all that renderers need to know, made once by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inferry.core.deployment import DeploymentFile
from inferry.core.deployment_base import ManagedBase
from inferry.engines.container import ContainerPlan, Mount
from inferry.engines.pod import PodProbes

Files = Mapping[str, str]
"""Path below the output folder to text: what a renderer gives."""

CONFIG_PATH = "/etc/inferry/inferry.yaml"
"""Where the gateway's container has its deployment file."""
HOME_PATH = "/var/lib/inferry"
"""Its INFERRY_HOME: ledger, journal, models."""
BACKUPS_PATH = "/var/backups/inferry"
"""Where it puts backups, with `backup` in the file: a volume of its own."""
MODELS_PATH = "/models"
"""Where it has models of embedded engines that the operator gives it."""
ADMIN_PORT = 9001
"""Of the control API, inside of the gateway's container."""
ENGINE_PORT = 8000
"""Where an engine listens inside of its container."""
GATEWAY_USER = 10001
"""Its user and group; above the ranges that distributions give to people and services."""


@dataclass(frozen=True, slots=True)
class ShippedEngine:
    """A deployment whose engine gets containers of its own, one for each replica."""

    deployment: ManagedBase
    plan: ContainerPlan
    probes: PodProbes
    replicas: int
    notes: tuple[str, ...] = ()
    """What somebody who runs it should know, one sentence each."""

    @property
    def name(self) -> str:
        """The deployment's."""
        return self.plan.name


@dataclass(frozen=True, slots=True)
class ProxyWishes:
    """How a proxy in front of the gateways shall listen."""

    http_port: int = 80
    """Only sends people on to HTTPS."""
    https_port: int = 443
    certificates: str = "/etc/inferry/tls"
    """Folder with `fullchain.pem` and `privkey.pem`; for HAProxy, `both.pem` with one after the other."""


DEFAULT_PROXY = ProxyWishes()


@dataclass(frozen=True, slots=True)
class Shipment:
    """One deployment file on its way."""

    config: DeploymentFile
    """With references in place of secrets."""
    tree: Mapping[str, Any]
    """The file as it is written, references included, with each path as it is inside the gateway's container."""
    image: str
    """Of the gateway, with its version: `inferry:0.9.0`."""
    version: str
    """Of Inferry."""
    mounts: tuple[Mount, ...] = ()
    """Files of the operator's that the gateway reads (certificates, terms, tokenizers, models of embedded engines)."""
    engines: tuple[ShippedEngine, ...] = ()
    embedded: tuple[str, ...] = ()
    """Deployments that run inside the gateway's own container: embedded llama.cpp and simulated engines."""
    outside: tuple[str, ...] = ()
    """Deployments that others run: the gateway only needs to reach them."""
    secrets: tuple[str, ...] = ()
    """Environment variables that the file refers to, and nobody else sees. Names only."""
    name: str = "inferry"
    """What everything is called after, and the Kubernetes namespace."""
    host: str = "llm.example.com"
    """The name that clients use, for TLS and Ingress."""
    gateways: int = 2
    """Containers of the gateway, where the target can have several."""
    upstreams: tuple[str, ...] = ()
    """For proxies: the gateways' addresses, HOST:PORT; none: the names that they have in the target's own network."""
    proxy: ProxyWishes = DEFAULT_PROXY

    @property
    def port(self) -> int:
        """Where clients connect, inside of the container too."""
        return self.config.gateway.port

    @property
    def admin_port(self) -> int | None:
        """Where the control API listens inside of the container; None: the file does not ask for it."""
        return None if self.config.admin.listen is None else ADMIN_PORT

    @property
    def keeps_state(self) -> bool:
        """The ledger is a file: only one gateway may have it."""
        url = self.config.ledger.url
        return url is None or url.startswith("sqlite")

    @property
    def model_mounts(self) -> tuple[Mount, ...]:
        """Of `mounts`, the models of embedded engines: too large for what holds certificates."""
        return tuple(each for each in self.mounts if each.inside.startswith(f"{MODELS_PATH}/"))

    @property
    def file_mounts(self) -> tuple[Mount, ...]:
        """The others: small files."""
        return tuple(each for each in self.mounts if each not in self.model_mounts)
