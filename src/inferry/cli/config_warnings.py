"""What `inferry config check` warns of: keys that are right, and do nothing beside the others.

A contradiction is an error, which the deployment file's own types tell. Only keys that are written are warned of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inferry.core.api_key import ANONYMOUS, SHADOW
from inferry.core.config_file import KeyPath, LoadedFile
from inferry.core.deployment import DeploymentFile
from inferry.core.deployment_base import DeploymentBase, ManagedBase
from inferry.core.filter_settings import Filter
from inferry.core.gateway_settings import Price
from inferry.core.suggest import did_you_mean
from inferry.engines.continuation import continuation_of

_WITHOUT_KEYS = (ANONYMOUS, SHADOW)
"""Tenants whose requests come without a key."""
_MONEY = ("cost_per_day", "cost_per_month")
STARTERS_KEYS = (
    "binary", "cpu_threads", "env", "extra_args", "gpus", "idle_unload_s", "image", "load_wait_s", "loaded_min_s", "memory",
    "models_folder", "restart", "rollout", "start_timeout_s", "stop_grace_s", "threads", "version",
)  # fmt: skip
"""Keys for whoever starts an engine. What the engine computes with (context_tokens, parallel) is for callers to know, too."""
Warned = Iterator[tuple[KeyPath, str]]
"""Where, and what about it."""


def warnings_of(loaded: LoadedFile) -> list[str]:
    """One line each, with file and line, in the file's order."""
    config = loaded.config
    found = [*_of_limits_and_keys(config), *_of_money(config), *_of_filters(config)]
    for name, deployment in config.deployments.items():
        found += _of_deployment(("deployments", name), deployment, deployment.engine)
    found = [(at, text) for at, text in found if at in loaded.lines]
    found.sort(key=lambda each: loaded.lines[each[0]])
    return [f"{loaded.place(at)}: {'.'.join(map(str, at))} {text}" for at, text in found]


def _of_deployment(at: KeyPath, deployment: DeploymentBase, engine: str) -> Warned:
    yield from _of_failover((*at, "failover"), deployment, engine)
    if isinstance(deployment, ManagedBase):
        if deployment.runs_elsewhere:
            for key in STARTERS_KEYS:
                yield (
                    (*at, key),
                    "has no effect beside 'endpoints': Inferry does not start this engine. Drop it",
                )
            return
        yield from _of_rollout((*at, "rollout"), deployment)
        yield from _of_loading(at, deployment)


def _of_failover(at: KeyPath, deployment: DeploymentBase, engine: str) -> Warned:
    failover = deployment.failover
    if failover.token_ids and not continuation_of(engine).token_ids:
        yield (*at, "token_ids"), f"has no effect with 'engine: {engine}', which tells no ids: drop it"
    elif failover.token_ids and not failover.resume:
        yield (*at, "token_ids"), "has no effect with 'resume: false': drop one of them"
    if not failover.resume:
        yield (*at, "resumes_max"), "has no effect with 'resume: false': drop one of them"


def _of_rollout(at: KeyPath, deployment: ManagedBase) -> Warned:
    if deployment.rollout.strategy == "surge":
        text = "has no effect with 'strategy: surge' (the default): drop it, or write 'strategy: in_place'"
        yield (*at, "max_unavailable"), text
    else:
        yield (*at, "max_surge"), "has no effect with 'strategy: in_place': drop one of them"


def _of_loading(at: KeyPath, deployment: ManagedBase) -> Warned:
    if not deployment.on_demand:
        for key in ("load_wait_s", "loaded_min_s"):
            yield (*at, key), "has no effect without 'load: on_demand': add that, or drop it"
    elif deployment.standby:
        text = (
            "does nothing while the model is not loaded ('load: on_demand'): load it 'at_start', or drop it"
        )
        yield (*at, "standby"), text


def _of_limits_and_keys(config: DeploymentFile) -> Warned:
    if config.gateway.auth == "keys":
        return
    text = (
        "has no effect without keys ('gateway.auth: none'): write 'auth: keys' under 'gateway:', or drop it"
    )
    yield ("gateway", "key_limits"), text
    for tenant in config.tenants:
        if tenant not in _WITHOUT_KEYS:
            yield ("tenants", tenant), text


def _of_money(config: DeploymentFile) -> Warned:
    """Budgets that nothing is ever charged to."""
    free = {name for name, each in config.deployments.items() if not _costs(each.price)}
    everywhere = "can't be used up: no deployment has a 'price'. Give them one, or drop it"
    for key in _MONEY:
        if free == set(config.deployments):
            yield ("gateway", "key_limits", key), everywhere
            for tenant in config.tenants:
                yield ("tenants", tenant, "limits", key), everywhere
        for name in free:
            yield (
                ("deployments", name, "limits", key),
                "can't be used up: this deployment has no 'price'. Give it one, or drop this",
            )


def _costs(price: Price) -> bool:
    return any((price.prompt_per_mtok, price.cached_per_mtok, price.completion_per_mtok))


def _of_filters(config: DeploymentFile) -> Warned:
    yield from _of_filter_list(("gateway", "filters"), config.gateway.filters, config)
    for name, deployment in config.deployments.items():
        yield from _of_filter_list(("deployments", name, "filters"), deployment.filters, config)


def _of_filter_list(at: KeyPath, filters: Sequence[Filter], config: DeploymentFile) -> Warned:
    for index, each in enumerate(filters):
        here = (*at, index)
        if config.gateway.auth == "none":
            for key in ("tenants", "except_tenants", "keys", "except_keys"):
                if set(getattr(each, key) or ()) - {*_WITHOUT_KEYS}:
                    yield (*here, key), "matches nobody without keys ('gateway.auth: none')"
        elif config.tenants:  # without any in the file, keys name theirs freely
            for key in ("tenants", "except_tenants"):
                for tenant in getattr(each, key) or ():
                    if tenant not in config.tenants:
                        near = did_you_mean(tenant, config.tenants)
                        text = (
                            f"names the tenant '{tenant}', which is not under 'tenants:' in this file.{near}"
                        )
                        yield (*here, key), text
