"""A replica of a simulated deployment, from its first start until it is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from inferry.core.replica import ReplicaLoad, ReplicaState, ReplicaView
from inferry.policy.restart import Crash
from inferry.simulate.replica import SimulatedReplica
from inferry.simulate.service_request import ServedRequest

_S = ReplicaState
_COMING = frozenset({_S.PENDING, _S.STARTING, _S.WARMING})
SERVES = frozenset({_S.READY, _S.SUSPECT})


@dataclass(slots=True, eq=False)
class ReplicaLife:
    """What is true of it now. Its owner, service_replicas.py, moves it."""

    replica: SimulatedReplica[ServedRequest]
    began_s: float
    name: str
    state: ReplicaState = _S.STARTING
    standby: bool = False
    """Ready, and without requests until another one is missed."""
    life: int = 1
    """Counts its starts."""
    ready_s: float | None = None
    """Since when it serves, in this life."""
    was_ever_ready: bool = False
    ended_s: float = inf
    drains_since_s: float = inf
    frozen_at_s: float | None = None
    tells_nothing_until_s: float = 0.0
    slowed: list[tuple[float, float]] = field(default_factory=list)
    """Until when, and how many times as long its steps take; of all that slows it."""
    crashes: list[Crash] = field(default_factory=list)
    held: dict[ServedRequest, None] = field(default_factory=dict)
    """What it has of gateways."""
    reading: ReplicaLoad | None = None
    """What its engine and its GPU told last."""
    busy_s: float = 0.0
    """What it had computed when the GPU's last sample began."""
    busy_at_s: float = 0.0

    @property
    def id(self) -> str:
        return self.replica.id

    @property
    def view(self) -> ReplicaView:
        """What the fleet tells of it."""
        return ReplicaView(
            id=self.id,
            deployment=self.name,
            engine="simulated",
            simulated=True,
            state=self.state,
            endpoint=None,
            since_wall_s=0.0,
            restarts=self.life - 1,
            message="simulated starts fail" if self.state is _S.FAILED else "",
            standby=self.standby,
        )

    @property
    def is_coming(self) -> bool:
        return self.state in _COMING

    @property
    def serves(self) -> bool:
        return self.state in SERVES


@dataclass(slots=True)
class PastLives:
    """What replicas came to that are gone: of each a few figures are kept, and not what it had in memory."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    """From each one's begin to its end."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    crashes: int = 0
    set_aside: int = 0

    def add(self, life: ReplicaLife, set_aside: int) -> None:
        model = life.replica.model
        self.spans.append((life.began_s, life.ended_s))
        self.prompt_tokens += model.prompt_tokens
        self.cached_tokens += model.cached_tokens
        self.preemptions += model.preemptions
        self.crashes += len(life.crashes)
        self.set_aside += set_aside
