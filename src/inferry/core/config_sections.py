"""Which keys may stand where in the deployment file: for hints in errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from inferry.core.deployment import ENGINE_TYPES, DeploymentFile
from inferry.core.deployment_base import Restart
from inferry.core.filter_settings import Classifier, Filter
from inferry.core.gateway_settings import (
    Admin,
    Cors,
    Gateway,
    Ledger,
    Price,
    Queue,
    SharedLimits,
    Tenant,
    Tls,
    Traces,
)
from inferry.core.health_settings import Breaker, Health, Outliers
from inferry.core.host_settings import Host
from inferry.core.limits import Limits
from inferry.core.prompt_truth_settings import PromptTruth
from inferry.core.public_names import PublicName, Shadow, Share
from inferry.core.rollout_settings import Rollout
from inferry.core.routing_settings import Routing

_SECTIONS: dict[str, type[BaseModel]] = {
    "gateway": Gateway,
    "routing": Routing,
    "health": Health,
    "breaker": Breaker,
    "outliers": Outliers,
    "restart": Restart,
    "rollout": Rollout,
    "admin": Admin,
    "ledger": Ledger,
    "host": Host,
    "tls": Tls,
    "cors": Cors,
    "shared_limits": SharedLimits,
    "traces": Traces,
    "limits": Limits,
    "key_limits": Limits,
    "queue": Queue,
    "price": Price,
    "classifier": Classifier,
    "prompt_truth": PromptTruth,
}
_OF_NAMES: dict[str, type[BaseModel]] = {"split": Share, "shadow": Shadow}


def section_at(at: tuple[str | int, ...], tree: Mapping[str, Any]) -> type[BaseModel] | None:
    """The type whose keys may stand directly below the path `at`."""
    if not at:
        return DeploymentFile
    if len(at) == 2 and at[0] == "deployments":
        return ENGINE_TYPES.get(str(tree["deployments"][at[1]].get("engine")))
    if len(at) == 2 and at[0] == "tenants":
        return Tenant
    if at[0] == "names":
        return PublicName if len(at) == 2 else _OF_NAMES.get(str(at[-2]))
    return Filter if at[-2:-1] == ("filters",) else _SECTIONS.get(str(at[-1]))
