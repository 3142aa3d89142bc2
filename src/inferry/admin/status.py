"""What is running, as records: the answer of GET /status and the rows of `inferry status`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, Field

from inferry.admin.names_view import NameStatus, view_names
from inferry.admin.rollout_view import RolloutView, view_rollout
from inferry.core.clock import Clock
from inferry.core.public_names import PublicName
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.fleet.lifecycle import Lifecycle
from inferry.fleet.scaler_watch import ScalerState
from inferry.fleet.swap_model import LoadState
from inferry.gateway.health import deployments_health
from inferry.gateway.served import ServedSpec
from inferry.gateway.snapshot import Snapshot

RATE_WINDOW_S = 10.0
NO_LOADS: Mapping[str, LoadState] = {}
NO_NAMES: Mapping[str, PublicName] = {}


class ReplicaStatus(BaseModel):
    id: str
    state: str
    pid: int | None = Field(description="None for engines that others run.")
    url: str | None
    since: float = Field(description="Wall seconds since 1970 at which it came into this state.")
    restarts: int
    health: str | None = Field(None, description="ok, busy, stuck or dead; None: no engine to judge.")
    barred_by: int = Field(0, description="Gateway processes that set it aside, for failing or for slowness.")
    standby: bool = Field(False, description="It gets no requests until another one is missed.")
    requests: int = Field(description="Requests sent there since this gateway started.")
    in_flight: int
    tokens_per_s: float = Field(description=f"Generated tokens, over the last {RATE_WINDOW_S:g} s.")
    message: str
    log: str | None


class LoadView(BaseModel):
    """Of a deployment that loads on demand."""

    state: str = Field(description="unloaded, loading, loaded or unloading.")
    message: str
    memory_bytes: int = Field(description="What all its replicas take of host.memory_budget.")
    memory_from: str = Field(description="Where that is known from: file, measured, weights or unknown.")


class ScalingStatus(BaseModel):
    """Of a deployment that is scaled by its file."""

    wanted: int
    min: int = Field(description="As the file says; a schedule may say otherwise at times.")
    max: int
    because: str = Field(description="What the last look came to, or why it rests.")
    alerts: list[str] = Field(description="Rules that only tell, and apply now.")


class DeploymentStatus(BaseModel):
    name: str
    engine: str
    simulated: bool
    model: str
    status: str
    routing: str
    waiting: int = Field(description="Requests that wait for a turn.")
    replicas: list[ReplicaStatus]
    scaled_by_hand: int | None = Field(
        None, description="The number of replicas that was asked for by hand; null: the file's holds."
    )
    scaling: ScalingStatus | None = Field(None, description="Only where the file has 'scaling'.")
    load: LoadView | None = Field(None, description="Only where it loads on demand.")
    rollout: RolloutView | None = Field(None, description="The one under way, or the last one.")


class Status(BaseModel):
    version: str
    pid: int
    file: str
    url: str
    started: float
    status: str
    generation: int = Field(description="How often the deployment file was applied.")
    file_not_in_force: str | None = Field(
        None, description="Why the deployment file as it is on disk is not what runs; null: it is."
    )
    settled: bool = Field(description="Every replica came up at least once, or failed for good.")
    deployments: list[DeploymentStatus]
    names: list[NameStatus] = Field(
        default_factory=list, description="Those over several deployments, as the file has them."
    )


class RateWindow:
    """The rate of a counter over the last RATE_WINDOW_S; a counter that falls back started anew."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now_s: float, total: int) -> None:
        if self._samples and total < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now_s, total))
        while now_s - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()

    def per_s(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


class StatusBoard:
    """Puts together what fleet and gateway know. `sample` is called about once a second."""

    def __init__(self, clock: Clock, *, about: dict[str, str | int | float]) -> None:
        self._clock = clock
        self._about = about
        self._rates: dict[str, RateWindow] = {}

    def sample(self, views: Iterable[ReplicaView], snapshot: Snapshot) -> None:
        """Note the token counters of all replicas."""
        now_s = self._clock.now_s()
        for view in views:
            total = view.tokens_generated
            if total is None:
                total = snapshot.metrics.replica_tokens.get(view.id, 0)
            self._rates.setdefault(view.id, RateWindow()).add(now_s, total)

    def status(
        self,
        views: Sequence[ReplicaView],
        snapshot: Snapshot,
        served: Iterable[ServedSpec],
        models: Mapping[str, str],
        *,
        settled: bool,
        generation: int,
        draining: bool = False,
        lifecycle: Lifecycle | None = None,
        loads: Mapping[str, LoadState] = NO_LOADS,
        names: Mapping[str, PublicName] = NO_NAMES,
        file_not_in_force: str | None = None,
        scaling: Iterable[ScalerState] = (),
    ) -> Status:
        """The state of everything now. `models`: what each deployment serves, in words."""
        rollouts = [] if lifecycle is None else lifecycle.rollouts()
        progress = {each.deployment: view_rollout(each) for each in rollouts}
        scaled = {state.deployment: _view_scaling(state) for state in scaling}
        specs = {spec.name: spec for spec in served}
        overall, healths = deployments_health(specs, views, loads)
        return Status.model_validate(
            {
                **self._about,
                "status": "draining" if draining else overall,
                "settled": settled,
                "generation": generation,
                "file_not_in_force": file_not_in_force,
                "deployments": [
                    DeploymentStatus(
                        name=name,
                        engine=spec.engine,
                        simulated=spec.simulated,
                        model=models[name],
                        status=healths[name]["status"],
                        routing=spec.routing.policy,
                        waiting=snapshot.waiting.get(name, 0),
                        replicas=[self._replica(view, snapshot) for view in views if view.deployment == name],
                        scaled_by_hand=None if lifecycle is None else lifecycle.scaled_by_hand(name),
                        scaling=scaled.get(name),
                        load=_view_load(loads[name]) if name in loads else None,
                        rollout=progress.get(name),
                    )
                    for name, spec in specs.items()
                ],
                "names": view_names(names, snapshot),
            }
        )

    def _replica(self, view: ReplicaView, snapshot: Snapshot) -> ReplicaStatus:
        rate = self._rates.get(view.id)
        return ReplicaStatus(
            id=view.id,
            state="standby" if view.standby and view.state is ReplicaState.READY else view.state.value,
            pid=view.pid,
            url=view.endpoint.url if view.endpoint else None,
            since=view.since_wall_s,
            restarts=view.restarts,
            health=None if view.verdict is None else view.verdict.value,
            barred_by=snapshot.barred.get(view.id, 0),
            standby=view.standby,
            requests=snapshot.sent.get(view.id, 0),
            in_flight=snapshot.in_flight.get(view.id, 0),
            tokens_per_s=round(rate.per_s(), 2) if rate else 0.0,
            message=view.message,
            log=view.log_path,
        )


def _view_scaling(state: ScalerState) -> ScalingStatus:
    decision = state.decision
    if state.by_hand is not None:
        because = f"{state.by_hand} by hand; scaling rests until 'inferry scale {state.deployment} auto'"
    elif state.leader:
        because = f"decided by {state.leader}"
    elif decision is None:
        because = "no look yet"
    else:
        because = f"{decision.because}; not now: {state.not_done}" if state.not_done else decision.because
    return ScalingStatus(
        wanted=state.wanted,
        min=state.scaling.min,
        max=state.scaling.max,
        because=because,
        alerts=[] if decision is None else [f"{each.rule}: {each.because}" for each in decision.alerts],
    )


def _view_load(state: LoadState) -> LoadView:
    return LoadView(
        state=state.phase.value,
        message=state.says,
        memory_bytes=state.need.need_bytes,
        memory_from=state.need.source.value,
    )
