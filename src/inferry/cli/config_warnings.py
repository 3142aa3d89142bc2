"""What `inferry config check` warns of: keys that are right, and do nothing beside the others.

A contradiction is an error, which the deployment file's own types tell. Only keys that are written are warned of.
"""

from __future__ import annotations

from collections.abc import Iterator

from inferry.core.config_file import KeyPath, LoadedFile
from inferry.core.deployment_base import DeploymentBase, ManagedBase
from inferry.engines.continuation import continuation_of

Warned = Iterator[tuple[KeyPath, str]]
"""Where, and what about it."""


def warnings_of(loaded: LoadedFile) -> list[str]:
    """One line each, with file and line, in the file's order."""
    found = [
        (at, text)
        for name, deployment in loaded.config.deployments.items()
        for at, text in _of_deployment(("deployments", name), deployment, deployment.engine)
        if at in loaded.lines
    ]
    found.sort(key=lambda each: loaded.lines[each[0]])
    return [f"{loaded.place(at)}: {'.'.join(map(str, at))} {text}" for at, text in found]


def _of_deployment(at: KeyPath, deployment: DeploymentBase, engine: str) -> Warned:
    yield from _of_failover((*at, "failover"), deployment, engine)
    if isinstance(deployment, ManagedBase):
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
