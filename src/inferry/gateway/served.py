"""A deployment as the gateway sees it: names, what its engine serves, and the balancer over its replicas."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inferry.core.errors import UnsupportedRoute
from inferry.core.failover_settings import Failover
from inferry.core.filter_settings import Filter
from inferry.core.gateway_settings import Price, Queue
from inferry.core.health_settings import Health
from inferry.core.limits import Limits
from inferry.core.request import Route
from inferry.engines.continuation import NOWHERE, Continuation
from inferry.gateway.demand import Demand
from inferry.gateway.estimates import TokenEstimates
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.parked import Parked, ParkedRequest, left_file
from inferry.gateway.prompt_truth import PromptTruthSpec
from inferry.gateway.turns import Turns, share_of
from inferry.ledger.prices import rates
from inferry.policy.retry import RetryBudget
from inferry.policy.routing import Balancer, Routing


@dataclass(frozen=True, slots=True)
class ServedSpec:
    """What the gateway needs to know of a deployment. Plain data: it travels to the gateway's processes."""

    name: str
    aliases: Sequence[str]
    engine: str
    simulated: bool
    upstream_model: str
    """What the engine wants as `model`."""
    routes: frozenset[str]
    asks_usage: bool
    """Ask the engine for usage in streams, and keep the answer to it from clients that did not."""
    routing: Routing
    limits: Limits = field(default_factory=lambda: Limits())
    price: Price = field(default_factory=lambda: Price())
    queue: Queue = field(default_factory=lambda: Queue())
    filters: Sequence[Filter] = ()
    """Those of the gateway, then those of the deployment."""
    prompt_truth: PromptTruthSpec | None = None
    slots: int | None = None
    """Requests that one replica computes at the same time; None: not known."""
    tokenize_field: str | None = None
    """Where its /tokenize reads the text: `content` or `prompt`; None: as the client says."""
    failover: Failover = field(default_factory=lambda: Failover())
    health: Health = field(default_factory=lambda: Health())
    continuation: Continuation = NOWHERE
    """How its engine goes on with an answer that another replica began."""
    reason_needed: bool = True
    """A stream without a finish_reason has failed."""
    load_wait_s: float | None = None
    """Its model is loaded on demand, and requests wait so long for it; None: it always is."""
    lora_models: Mapping[str, str] = field(default_factory=dict)
    """More public names, of LoRA adapters: each with what the engine wants as `model` for it."""


class Stranded(Protocol):
    def look_again(self) -> None: ...


class ServedDeployment:
    """The live side of it: what requests are counted on. It outlives changes of its spec."""

    def __init__(
        self,
        spec: ServedSpec,
        filters: FilterSet | None = None,
        on_load_wanted: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.balancer = Balancer(spec.routing, random.Random())
        self.turns = Turns(spec.queue, None)
        self.parked = Parked(spec.name, on_load_wanted)
        self.estimates = TokenEstimates()
        self.demand = Demand()
        self._live_lora: Mapping[str, str] = {}
        self.retry_budget = RetryBudget()
        self.stranded: dict[Stranded, None] = {}
        """Requests that have lost their replica, and wait for one."""
        self.configure(spec, filters)

    def configure(self, spec: ServedSpec, filters: FilterSet | None) -> None:
        """Take a new spec and its compiled filters; replicas and the requests that they hold stay counted."""
        self.spec = spec
        self.filters = filters
        self.name = spec.name
        self.engine = spec.engine
        self.upstream_model = spec.upstream_model
        self.lora_models = {**self._live_lora, **spec.lora_models}
        self.routes = spec.routes
        self.asks_usage = spec.asks_usage
        self.tokenize_field = spec.tokenize_field
        self.reason_needed = spec.reason_needed
        self.failover = spec.failover
        self.continuation = spec.continuation
        self.asks_token_ids = spec.failover.resume and spec.failover.token_ids and spec.continuation.token_ids
        self.rates = rates(spec.price)
        self.balancer.set_policy(spec.routing)
        self.turns.settings = spec.queue
        self.parked.wait_max_s = spec.load_wait_s
        self.parked.waiting_max = spec.queue.waiting_max
        self.parked.has_left = False

    def set_live_lora(self, models: Mapping[str, str], taken: Container[str]) -> None:
        """Adapters that its engines loaded while they run, in addition to the file's. Names that the file has
        `taken` since are the file's."""
        self._live_lora = {name: model for name, model in models.items() if name not in taken}
        self.lora_models = {**self._live_lora, **self.spec.lora_models}

    def require_route(self, route: Route, model: str) -> None:
        """Raises UnsupportedRoute that says what its engine has instead. `model`: as the client named it."""
        if route.path not in self.routes:
            raise UnsupportedRoute(
                f"'{model}' runs on {self.engine}, which does not serve {route.path}. "
                f"It serves: {', '.join(sorted(self.routes))}.",
                param="model",
            )

    def wake_stranded(self) -> None:
        """A replica is ready."""
        for each in list(self.stranded):
            each.look_again()

    def share_slots(self, workers: int, now_s: float) -> None:
        """Count anew how many requests may run at the replicas that serve now; this process gets its share."""
        self.balancer.shared = workers > 1
        each = self.spec.queue.running_max
        if each is None and self.spec.slots is not None:
            each = 2 * self.spec.slots
        usable = self.balancer.usable()
        if self.on_demand and not usable:
            self.turns.set_slots(0, now_s)
            self._park_waiting(now_s)
            return
        # With nobody to wait for, requests are told so at once.
        slots = None if each is None or not usable else share_of(each * usable, workers)
        if slots != self.turns.slots:
            self.turns.set_slots(slots, now_s)
        self.parked.release()

    def _park_waiting(self, now_s: float) -> None:
        """Those who wait for a turn wait for the model now."""
        for waiter in self.turns.take_waiting(now_s):
            assert isinstance(waiter, ParkedRequest)
            full = self.parked.add(waiter, now_s)
            if full is not None:
                waiter.on_refused(full)

    def leave_file(self, now_s: float) -> None:
        """The file has it no more: nobody waits here, for a turn or for the model. What runs goes on to its end."""
        waiting = self.turns.take_waiting(now_s)
        self.parked.close()
        for waiter in waiting:
            waiter.on_refused(left_file(self.name))

    @property
    def on_demand(self) -> bool:
        """Its model is loaded when it is asked for."""
        return self.spec.load_wait_s is not None

    @property
    def awaits_model(self) -> bool:
        """It is loaded on demand, and no replica serves now: requests have to be parked."""
        return self.on_demand and not self.balancer.usable()

    @property
    def waiting(self) -> int:
        """Requests that wait for a turn, or for the model."""
        return self.turns.waiting + len(self.parked)

    def tick(self, now_s: float) -> None:
        """Ten times a second: those who have waited too long are told so."""
        self.turns.expire(now_s)
        self.parked.tick(now_s)
