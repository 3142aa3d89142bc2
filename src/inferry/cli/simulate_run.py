"""One deployment file, or several variants of it, simulated under the same load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from inferry.cli.simulate_blind import blind_rules
from inferry.cli.simulate_capacity import PlannedAutoscaler
from inferry.cli.simulate_failures import Failures
from inferry.cli.simulate_load_words import Load
from inferry.cli.simulate_others import claims_of_others, others_text
from inferry.cli.simulate_settings import Setting, settings_of
from inferry.cli.simulate_timing import Timings
from inferry.core.config_file import LoadedFile
from inferry.core.deployment import DeploymentFile, ManagedDeployment
from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import ConfigError
from inferry.core.scaling_settings import Scaling, ScalingSlo
from inferry.core.suggest import did_you_mean
from inferry.simulate.arrivals import Arrival
from inferry.simulate.experiment import run
from inferry.simulate.result import ServiceResult
from inferry.simulate.service import Service
from inferry.simulate.service_budget import HostBudget
from inferry.simulate.timing_known import KnownTiming

SLO_DEFAULT = ScalingSlo(ttft_ms=2000, itl_ms=200)
"""MLPerf Inference's limits for its Server scenario with Llama 2 70B, as `inferry bench` searches with."""
POINTS_MAX = 240
"""Of a timeline: what a plot of a page shows."""
_INTERVALS_S = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0)


@dataclass(frozen=True, slots=True)
class Variant:
    """One column of a comparison."""

    name: str
    path: Path
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """The same for all variants."""

    load: Load
    deployment: str | None
    seed: int
    gateways: int | None
    failures: Failures
    slo: ScalingSlo | None
    start_s: float | None
    price_per_gpu_hour: float | None


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of one variant, and what it rests on."""

    variant: Variant
    deployment: str
    engine: str
    model: str
    timing: KnownTiming
    slo: ScalingSlo
    slo_from: str
    price_per_hour: float | None
    """Of a replica."""
    price_says: str
    currency: str
    gateways: int
    interval_s: float
    result: ServiceResult


def variants_of(files: Sequence[Path], settings: Sequence[Setting], others: Sequence[str]) -> list[Variant]:
    """The first file, then everything that it is compared with: `settings` hold in all. Raises ConfigError."""
    first, shared = files[0], tuple(settings)
    found = [Variant("as it is" if others and len(files) == 1 else _stem(first, files), first, shared)]
    found += [Variant(_stem(each, files), each, shared) for each in files[1:]]
    for text in others:
        found.append(_variant(text, first, shared))
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"--compare: two are called '{name}'. Give one a name: --compare 'NAME: KEY=VALUE'."
            )
    return found


def _stem(path: Path, files: Sequence[Path]) -> str:
    """As short as tells them apart."""
    alone = sum(each.stem == path.stem for each in files) == 1
    return path.stem if alone else str(path)


def _variant(text: str, first: Path, shared: tuple[Setting, ...]) -> Variant:
    """`other.yaml`, `KEY=VALUE,...` or `NAME: KEY=VALUE,...`."""
    name, colon, rest = text.partition(":")
    if "=" not in text:
        return Variant(Path(text).stem, Path(text), shared)
    if colon and "=" not in name:
        return Variant(name.strip(), first, (*shared, *settings_of(rest.strip(), "--compare")))
    own = settings_of(text, "--compare")
    return Variant(
        ", ".join(f"{each.parts[-1]} {each.value or 'none'}" for each in own), first, (*shared, *own)
    )


def simulate(
    variant: Variant,
    loaded: LoadedFile,
    timings: Timings,
    conditions: Conditions,
    arrivals: Iterator[Arrival],
    span_s: float,
) -> Simulated:
    """Raises ConfigError."""
    config = loaded.config
    name = deployment_of(config, conditions.deployment, variant.path)
    deployment = config.deployments[name]
    known = timings.of(name)
    if conditions.start_s is not None:
        known = replace(known, timing=replace(known.timing, start_s=conditions.start_s))
    scaling = deployment.scaling if isinstance(deployment, ManagedBase) else None
    slo, slo_from = _slo(scaling, conditions.slo)
    price, price_says = _price(scaling, known, conditions.price_per_gpu_hour)
    failures = conditions.failures
    service = replace(_service(name, config, known, slo, price), crashes_per_hour=failures.crashes_per_hour)
    gateways = conditions.gateways or config.gateway.workers
    others = claims_of_others(config, name)
    known = replace(known, doubts=(*known.doubts, *others_text(config.host, others), *blind_rules(scaling)))
    interval_s = next((each for each in _INTERVALS_S if span_s / each <= POINTS_MAX), _INTERVALS_S[-1])
    result = run(
        [service],
        (_for_it(each) for each in arrivals if each.deployment in ("", name)),
        seed=conditions.seed,
        gateways=gateways,
        failures=failures.planned,
        lasts_s=conditions.load.until_s or 0.0,
        interval_s=interval_s,
        tenants=config.tenants,
        settings=config.gateway,
        begin_wall_s=conditions.load.begin_wall_s,
        budget=HostBudget(config.host.gpus_max, config.host.money_per_hour_max, others),
    ).only
    return Simulated(
        variant=variant,
        deployment=name,
        engine=deployment.engine,
        model=deployment.model,
        timing=known,
        slo=slo,
        slo_from=slo_from,
        price_per_hour=price,
        price_says=price_says,
        currency=config.ledger.currency,
        gateways=gateways,
        interval_s=interval_s,
        result=msgspec.structs.replace(result, cost=(price or 0.0) * result.replica_hours),
    )


def _for_it(arrival: Arrival) -> Arrival:
    return msgspec.structs.replace(arrival, deployment="") if arrival.deployment else arrival


def deployment_of(config: DeploymentFile, asked: str | None, path: Path) -> str:
    """Whom the load is for. Raises ConfigError where that is not clear."""
    names = list(config.deployments)
    if asked is not None:
        if asked not in names:
            raise ConfigError(
                f"--deployment {asked}: {path} has no such deployment.{did_you_mean(asked, names)}"
            )
        return asked
    if len(names) > 1:
        raise ConfigError(
            f"{path} has several deployments: say which one by --deployment: {', '.join(names)}."
        )
    return names[0]


def _service(
    name: str, config: DeploymentFile, known: KnownTiming, slo: ScalingSlo, price: float | None
) -> Service:
    deployment = config.deployments[name]
    service = Service(
        name=name,
        timing=known.timing,
        routing=deployment.routing,
        queue=deployment.queue,
        limits=deployment.limits,
        price=deployment.price,
        failover=deployment.failover,
        health=deployment.health,
        drain_max_s=deployment.drain_max_s,
        gpus_per_replica=known.gpus,
        price_per_gpu_hour=0.0 if price is None else price / max(known.gpus, 1),
        slo=slo,
    )
    if not isinstance(deployment, ManagedBase):
        return service
    assert isinstance(deployment, ManagedDeployment)
    scaling = deployment.scaling
    return replace(
        service,
        replicas=deployment.replicas,
        standby=deployment.standby,
        slots=deployment.parallel,
        restart=deployment.restart,
        scaling=scaling,
        autoscaler=_planned(scaling, known),
        load_wait_s=deployment.load_wait_s if deployment.on_demand else None,
        idle_unload_s=deployment.idle_unload_s,
        loaded_min_s=deployment.loaded_min_s,
    )


def _planned(scaling: Scaling | None, known: KnownTiming) -> Callable[[], PlannedAutoscaler] | None:
    """None: by what the file says, or by what is seen alone, as in production."""
    performance = known.performance
    if (
        scaling is None
        or scaling.slo is None
        or scaling.slo.requests_per_s is not None
        or performance is None
    ):
        return None
    return lambda: PlannedAutoscaler(scaling, known.gpus, performance)


def _slo(scaling: Scaling | None, asked: ScalingSlo | None) -> tuple[ScalingSlo, str]:
    if asked is not None:
        return asked, "--slo"
    if scaling is not None and scaling.slo is not None:
        return scaling.slo, "scaling.slo"
    return SLO_DEFAULT, "assumed: nobody said one"


def _price(
    scaling: Scaling | None, known: KnownTiming, per_gpu_hour: float | None
) -> tuple[float | None, str]:
    """Of a replica's hour. None: nobody knows."""
    if per_gpu_hour is not None:
        return per_gpu_hour * max(known.gpus, 1), "--price-per-gpu-hour"
    if scaling is not None and scaling.replica_price_per_hour is not None:
        return scaling.replica_price_per_hour, "scaling.replica_price_per_hour"
    if known.price_per_gpu_hour is not None and known.gpus:
        return known.price_per_gpu_hour * known.gpus, known.price_says
    return None, ""
