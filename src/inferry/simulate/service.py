"""A simulated deployment: its replicas, its doors at all gateway processes, its figures, its scaling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from inferry.core.deployment_base import Restart
from inferry.core.failover_settings import Failover
from inferry.core.gateway_settings import Price, Queue
from inferry.core.health_settings import Health
from inferry.core.limits import Limits
from inferry.core.routing_settings import Routing
from inferry.core.scaling_settings import Scaling, ScalingSlo
from inferry.gateway.served import ServedSpec
from inferry.policy.scaling.decision import Autoscaler, ReplicaCapacity
from inferry.simulate.timing import EngineTiming


@dataclass(frozen=True, slots=True)
class Service:
    """What is simulated of a deployment, in the file's words; `timing` stands for its engine and machine."""

    name: str = "chat"
    timing: EngineTiming = field(default_factory=EngineTiming)
    replicas: int = 1
    """It begins with so many, which serve at once; with none where it is loaded on demand."""
    routing: Routing = field(default_factory=lambda: Routing())
    queue: Queue = field(default_factory=lambda: Queue())
    slots: int | None = None
    """Requests that one replica computes at the same time, where Inferry knows it; see queue.running_max."""
    limits: Limits = field(default_factory=lambda: Limits())
    price: Price = field(default_factory=lambda: Price())
    """Of tokens, for limits of money."""
    failover: Failover = field(default_factory=lambda: Failover())
    health: Health = field(default_factory=lambda: Health())
    restart: Restart = field(default_factory=lambda: Restart())
    drain_max_s: float = 300.0
    scaling: Scaling | None = None
    autoscaler: Callable[[], Autoscaler] | None = None
    """Decides; left out, what `scaling` says does."""
    capacity: ReplicaCapacity | None = None
    """For `scaling.slo`: what one replica carries; left out, it is learned."""
    load_wait_s: float | None = None
    """It is loaded on demand, and requests wait so long for it; None: it always is."""
    idle_unload_s: float | None = None
    loaded_min_s: float = 0.0
    standby: int = 0
    """More that are ready, and serve when one of the others is missed."""
    crashes_per_hour: float = 0.0
    """Of each replica that serves, at random by the run's seed."""
    start_jitter: float = 0.0
    """Starts take evenly up to this share more or less than `timing.start_s`."""
    gpus_per_replica: int = 1
    price_per_gpu_hour: float = 0.0
    slo: ScalingSlo | None = None
    """What figures hold against; left out, that of `scaling`."""

    @property
    def objectives(self) -> ScalingSlo | None:
        if self.slo is not None or self.scaling is None:
            return self.slo
        return self.scaling.slo

    def spec(self) -> ServedSpec:
        """As a gateway is told of it."""
        return ServedSpec(
            name=self.name,
            aliases=(),
            engine="simulated",
            simulated=True,
            upstream_model=self.name,
            routes=frozenset(),
            asks_usage=False,
            routing=self.routing,
            limits=self.limits,
            price=self.price,
            queue=self.queue,
            slots=self.slots,
            failover=self.failover,
            health=self.health,
            load_wait_s=self.load_wait_s,
        )
