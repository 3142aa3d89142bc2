"""A simulated deployment that is loaded on demand: woken by requests that wait for it, unloaded when nobody asks, or when
its engines don't come up: then it is tried again later, as fleet/model_swap.py does.

Decided by policy/model_swap.py, as the fleet has it decided; here without a memory budget.
"""

from __future__ import annotations

from collections.abc import Callable

from inferry.core.replica import ReplicaState
from inferry.fleet.model_swap import AFTER_FAILURE_S
from inferry.gateway.parked import LoadNews
from inferry.policy.model_swap import Holder, LoadNow, decide_load, is_idle_too_long
from inferry.simulate.service import Service
from inferry.simulate.service_replicas import Replicas
from inferry.simulate.timeline import Timeline

TICK_S = 1.0
"""Between two looks for idle models, as the fleet has it."""


class OnDemand:
    """Does nothing for a deployment that is always loaded."""

    def __init__(
        self,
        service: Service,
        replicas: Replicas,
        timeline: Timeline,
        requests_now: Callable[[], int],
        requests_ever: Callable[[], int],
        tell: Callable[[LoadNews], None],
    ) -> None:
        """`tell`: gateways, how a load goes."""
        self.loads = 0
        """Times that it was woken."""
        self._service = service
        self._replicas = replicas
        self._timeline = timeline
        self._requests_now = requests_now
        self._requests_ever = requests_ever
        self._seen = 0
        self._tell = tell
        self._refused_until_s = 0.0
        self._used_s = 0.0
        self._woken = max(service.replicas if service.scaling is None else service.scaling.min, 1)

    def begin(self) -> None:
        if self._service.load_wait_s is not None:
            self._timeline.at(TICK_S, self._look)

    def want(self, deployment: str) -> None:
        """Requests wait for it."""
        if self._replicas.wanted:
            return
        now_s = self._timeline.now_s
        if now_s < self._refused_until_s:
            # Heard by a message: not while the gateway still asks.
            self._timeline.at(now_s, self._refuse, self._refused_until_s - now_s)
            return
        holder = self._holder(0, None)
        if isinstance(decide_load(holder.need_bytes, None, (), now_s), LoadNow):
            self.loads += 1
            self._replicas.scale_to(self._woken)

    def _look(self) -> None:
        now_s = self._timeline.now_s
        requests, ever = self._requests_now(), self._requests_ever()
        if requests or ever > self._seen:  # short ones came and ended between two looks
            self._used_s = now_s
        self._seen = ever
        if self._has_failed():
            self._refused_until_s = now_s + AFTER_FAILURE_S
            self._refuse(AFTER_FAILURE_S)
            self._replicas.scale_to(0)
        elif self._replicas.wanted:
            serving = [
                each.ready_s
                for each in self._replicas.lives.values()
                if each.serves and each.ready_s is not None
            ]
            holder = self._holder(requests, min(serving, default=None))
            if is_idle_too_long(holder, self._service.idle_unload_s, now_s):
                self._replicas.scale_to(0)
        self._timeline.at(now_s + TICK_S, self._look)

    def _has_failed(self) -> bool:
        """None of its replicas will ever come up."""
        staying = self._replicas.staying
        return bool(staying) and all(each.state is ReplicaState.FAILED for each in staying)

    def _refuse(self, for_s: float) -> None:
        self._tell(LoadNews(self._service.name, "its simulated starts fail", for_s))

    def _holder(self, requests: int, loaded_s: float | None) -> Holder:
        service = self._service
        return Holder(
            service.name,
            0,
            on_demand=True,
            requests=requests,
            used_s=self._used_s,
            loaded_s=loaded_s,
            loaded_min_s=service.loaded_min_s,
        )
