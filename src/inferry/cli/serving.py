"""What a deployment file means to the fleet and to the gateway: plans and specs, built with the engines' adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inferry.cli.config_extras import check_extras
from inferry.cli.scaling_check import check_scaling
from inferry.cli.weights import WITH_WEIGHTS, runs_in_pods
from inferry.core.deployment import Deployment, DeploymentFile
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.filter_settings import Filter
from inferry.core.remote_engines import OpenAIDeployment
from inferry.engines.adapter import LaunchableAdapter, RemoteAdapter
from inferry.engines.lora_names import lora_models
from inferry.engines.registry import adapter_for
from inferry.fleet.memory_need import check_budget
from inferry.fleet.plan import DeploymentPlan
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.messages import Configuration
from inferry.gateway.prompt_counter import load_counter
from inferry.gateway.prompt_truth import PromptTruthSpec
from inferry.gateway.served import ServedSpec
from inferry.gateway.tls import load_tls


@dataclass(frozen=True, slots=True)
class Serving:
    """One generation of a deployment file, ready to be served."""

    generation: int
    config: DeploymentFile
    plans: tuple[DeploymentPlan, ...]
    served: tuple[ServedSpec, ...]

    @property
    def for_gateway(self) -> Configuration:
        config = self.config
        return Configuration(self.generation, config.gateway, config.tenants, self.served, config.names)


def make_serving(
    config: DeploymentFile, model_paths: Mapping[str, Path | None], generation: int = 1
) -> Serving:
    """Compiles every filter and loads every tokenizer once, which can take seconds, and needs no event loop.

    Raises ConfigError where an engine can't be run as the file says, a filter is wrong, a certificate can't be
    used, or something that one of them needs is missing, with everything that is: told here, nothing has been
    started yet.
    """
    problems: list[ConfigError] = []
    plans, served = [], []
    with _noted(problems):
        check_extras(config)
    with _noted(problems):
        check_scaling(config)
    for name, deployment in config.deployments.items():
        with _noted(problems):
            adapter = adapter_for(name, deployment)
            path = model_paths.get(name)
            plans.append(DeploymentPlan(name, deployment, adapter, path))
            served.append(_spec(name, deployment, adapter, config.gateway.filters, path))
    to_fetch = {
        name
        for name, deployment in config.deployments.items()
        if isinstance(deployment, WITH_WEIGHTS)
        and not deployment.runs_elsewhere
        and name not in model_paths
        and not runs_in_pods(config)
    }
    with _noted(problems):
        check_budget(config.host.memory_budget, {plan.name: plan for plan in plans}, to_fetch)
    _try_filters(config, problems)
    for section, tls in (("gateway", config.gateway.tls), ("admin", config.admin.tls)):
        with _noted(problems, f"{section}."):
            if tls is not None:
                load_tls(tls)
    for spec in served:
        with _noted(problems, f"deployments.{spec.name}.prompt_truth: "):
            if spec.prompt_truth is not None:
                load_counter(Path(spec.prompt_truth.source), lambda layout: layout)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigError("\n".join(each.message for each in problems))
    return Serving(generation, config, tuple(plans), tuple(served))


@contextmanager
def _noted(problems: list[ConfigError], where: str = "") -> Iterator[None]:
    """A ConfigError from within joins `problems`, with `where` before its message."""
    try:
        yield
    except ConfigError as error:
        error.message = f"{where}{error.message}"
        problems.append(error)


def _try_filters(config: DeploymentFile, problems: list[ConfigError]) -> None:
    everywhere = [(f"gateway.filters.{index}: ", each) for index, each in enumerate(config.gateway.filters)]
    own = [
        (f"deployments.{name}.filters.{index}: ", each)
        for name, deployment in config.deployments.items()
        for index, each in enumerate(deployment.filters)
    ]
    for where, each in (*everywhere, *own):
        with _noted(problems, where):
            FilterSet([each])


def _spec(
    name: str,
    deployment: Deployment,
    adapter: LaunchableAdapter | RemoteAdapter,
    filters_for_all: Sequence[Filter],
    model_path: Path | None,
) -> ServedSpec:
    truth = deployment.prompt_truth
    source = None if truth is None else truth.tokenizer or model_path
    return ServedSpec(
        name=name,
        aliases=tuple(deployment.aliases),
        engine=deployment.engine,
        simulated=adapter.simulated,
        upstream_model=adapter.served_name,
        lora_models=lora_models(name, deployment),
        load_wait_s=deployment.load_wait_s
        if isinstance(deployment, ManagedBase) and deployment.on_demand
        else None,
        routes=adapter.routes,
        asks_usage=adapter.reports_stream_usage,
        tokenize_field=adapter.tokenize_field,
        routing=deployment.routing,
        limits=deployment.limits,
        price=deployment.price,
        queue=deployment.queue,
        failover=deployment.failover,
        health=deployment.health,
        continuation=adapter.continuation,
        filters=(*filters_for_all, *deployment.filters),
        prompt_truth=None if truth is None or source is None else PromptTruthSpec(truth, str(source)),
        reason_needed=not isinstance(deployment, OpenAIDeployment) or deployment.gives_finish_reason,
        slots=None if isinstance(deployment, OpenAIDeployment) else deployment.parallel,
    )
