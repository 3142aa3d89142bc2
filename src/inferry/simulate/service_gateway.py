"""One simulated gateway process: its doors, its limits, and its watch over the replicas. The classes are the gateway's
own; time is the timeline's."""

from __future__ import annotations

from collections.abc import Mapping

from inferry.core.errors import InferryError
from inferry.core.gateway_settings import Tenant
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.gateway.admission import TICK_S
from inferry.gateway.replica_watch import ReplicaWatch
from inferry.gateway.served import ServedDeployment
from inferry.simulate.service_door import Door
from inferry.simulate.service_limits import ServiceLimits
from inferry.simulate.service_request import ServedRequest
from inferry.simulate.timeline import Timeline

CHECK_S = 1.0
WAITING_CHECK_S = 0.1
CALM_LOOK_S = 5.0
"""Between two looks at replicas of which none has failed anything, warms up or is set aside. Gateways look twice a second
at all times: a replica that is far slower than its peers without having failed is set aside here that much later."""
_DEFAULT_TENANT = Tenant()


class SetAside:
    """What a gateway logs of replicas that it sets aside: counted, and not logged."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}

    def info(self, event: str, **fields: object) -> None:
        return None

    def warning(self, event: str, **fields: object) -> None:
        name = str(fields["replica"])
        self.times[name] = self.times.get(name, 0) + 1


class SimulatedGateway:
    """See the module. Checks are made only while there is something to look at."""

    def __init__(
        self,
        timeline: Timeline,
        tenants: Mapping[str, Tenant],
        limits: ServiceLimits | None,
        *,
        workers: int,
        attempts_max: int,
        first_byte_timeout_s: float,
    ) -> None:
        self.attempts_max = attempts_max
        self.first_byte_timeout_s = first_byte_timeout_s
        self.workers = workers
        self.doors: dict[str, Door] = {}
        self._said = SetAside()
        self.watch = ReplicaWatch(lambda: timeline.now_s, _ignore, _ignore, (), logger=self._said)
        self.on_success = self.watch.on_success
        self._tenants = tenants
        self._limits = limits
        self._timeline = timeline
        self._open = 0
        self._is_checking = False
        self._expects_waiting = False
        self._ticks_limits = False
        self._looked_s = 0.0
        self._uneasy_until_s = 0.0

    # --- for doors ------------------------------------------------------------------------------------

    def ask_limits(self, request: ServedRequest, served: ServedDeployment) -> InferryError | None:
        assert self._limits is not None
        if not self._ticks_limits:
            self._ticks_limits = True
            self._timeline.at(self._timeline.now_s + TICK_S, self._tick_limits)
        return self._limits.ask(request, served)

    def settle(self, request: ServedRequest, answer_tokens: int, served: ServedDeployment) -> None:
        assert self._limits is not None
        self._limits.settle(request, answer_tokens, served)

    def weight(self, tenant: str) -> float:
        return self._tenants.get(tenant, _DEFAULT_TENANT).weight

    def on_failure(self, replica_id: str, reason: str) -> None:
        self._be_uneasy(60.0)
        self.watch.on_failure(replica_id, reason)

    def on_waiting(self) -> None:
        if not self._expects_waiting:
            self._expects_waiting = True
            self._timeline.at(self._timeline.now_s + WAITING_CHECK_S, self._check_waiting)

    def set_aside(self, replica_id: str) -> int:
        """So often, it kept requests from this replica."""
        return self._said.times.get(replica_id, 0)

    # --- of replicas ----------------------------------------------------------------------------------

    def apply(self, door: Door, view: ReplicaView) -> None:
        """A replica is new, or in another state: as `Gateway.apply`."""
        served, now_s = door.served, self._timeline.now_s
        self._be_uneasy(served.spec.health.slow_start_s + 1.0)
        state = view.state
        if view.standby and state in (ReplicaState.READY, ReplicaState.SUSPECT):
            state = ReplicaState.PENDING
        self.watch.on_view(served, view, served.balancer.put(view.id, state, view.weight))
        served.share_slots(self.workers, now_s)
        if state is ReplicaState.READY and served.stranded:
            served.wake_stranded()

    def gone(self, door: Door, replica_id: str) -> None:
        """As `Gateway.gone`."""
        self.watch.forget(replica_id)
        door.served.balancer.drop(replica_id)
        door.served.share_slots(self.workers, self._timeline.now_s)

    # --- as time passes -------------------------------------------------------------------------------

    def opened(self) -> None:
        """One more request is under way."""
        self._open += 1
        if not self._is_checking:
            self._is_checking = True
            self._timeline.at(self._timeline.now_s + CHECK_S, self._check)

    def closed(self) -> None:
        self._open -= 1

    def _check(self) -> None:
        now_s = self._timeline.now_s
        for door in self.doors.values():
            door.check(now_s)
        if now_s - self._looked_s >= CALM_LOOK_S or now_s < self._uneasy_until_s:
            self._look(now_s)
        if self._open:
            self._timeline.at(now_s + CHECK_S, self._check)
        else:
            self._is_checking = False

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        self.watch.tick(now_s)
        if self.watch.barred():
            self._be_uneasy(60.0)
        if now_s < self._uneasy_until_s:
            self._timeline.at(now_s + CHECK_S / 2, self._look_between)

    def _look_between(self) -> None:
        self.watch.tick(self._timeline.now_s)

    def _be_uneasy(self, for_s: float) -> None:
        now_s = self._timeline.now_s
        self._uneasy_until_s = max(self._uneasy_until_s, now_s + for_s)

    def _check_waiting(self) -> None:
        now_s = self._timeline.now_s
        waiting = 0
        for door in self.doors.values():
            door.served.tick(now_s)
            waiting += door.served.waiting
        self._expects_waiting = waiting > 0
        if waiting:
            self._timeline.at(now_s + WAITING_CHECK_S, self._check_waiting)

    def _tick_limits(self) -> None:
        assert self._limits is not None
        self._limits.tick(self._timeline.now_s)
        self._ticks_limits = self._open > 0
        if self._open:
            self._timeline.at(self._timeline.now_s + TICK_S, self._tick_limits)


def _ignore(*told: object) -> None:
    """The fleet, which hears of failures by the replicas themselves here."""
