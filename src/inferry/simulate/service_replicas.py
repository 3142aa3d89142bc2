"""The replicas of one simulated deployment: they start, serve, fail, are started again, and leave.

state      meaning here                                                    goes to
pending    crashed; waits for its restart as policy/restart.py has it      starting
starting   its process runs, and loads for `start_s`                       ready, pending (starts fail)
ready      serves                                                          suspect, draining, failed
suspect    hangs for longer than health.hand_over_after_s                  ready, failed (stuck_after_s)
draining   finishes what it has, then hands over, then breaks off          gone
failed     down for good: it crashed too often

A crash is known to gateways at once, as that of a child process is: the fleet hears it from the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from inferry.core.deployment_base import Restart
from inferry.core.errors import EngineBroke
from inferry.core.health_settings import Health
from inferry.core.replica import ReplicaLoad, ReplicaState
from inferry.fleet.scaler_starts import Starts
from inferry.policy.restart import Crash, RestartAfter, decide_restart
from inferry.policy.scaling.victims import Candidate, least_to_lose
from inferry.policy.standby import Standing, decide_roles
from inferry.simulate.failures import Crashes
from inferry.simulate.replica import SimulatedReplica
from inferry.simulate.service_gateway import SimulatedGateway
from inferry.simulate.service_life import PastLives, ReplicaLife
from inferry.simulate.service_request import ServedRequest
from inferry.simulate.timeline import Timeline
from inferry.simulate.timing import EngineTiming

HAND_OVER_AGAIN_S = 1.0
STUCK_AGAIN_S = 2.0
"""As fleet/leaving.py and fleet/replica_care.py have it: who could not go on elsewhere may be able to now."""
_S = ReplicaState


class Replicas:
    """All of a deployment's. Gateways ask it to submit; replicas tell it what becomes of requests."""

    def __init__(
        self,
        name: str,
        timing: EngineTiming,
        timeline: Timeline,
        gateways: Sequence[SimulatedGateway],
        rng: Random,
        *,
        health: Health,
        restart: Restart,
        drain_s: float,
        drain_max_s: float,
        start_jitter: float = 0.0,
        standby: int = 0,
        crashes: Crashes | None = None,
    ) -> None:
        self.lives: dict[str, ReplicaLife] = {}
        """Those that are not gone, in order of their first start."""
        self.past = PastLives()
        self.wanted = 0
        """So many are to serve; those in reserve come on top of them."""
        self.starts = Starts()
        self.no_starts_until_s = 0.0
        self._name = name
        self._timing = timing
        self._timeline = timeline
        self._gateways = gateways
        self._rng = rng
        self._health = health
        self._restart = restart
        self._drain_s = drain_s
        self._drain_max_s = max(drain_max_s, drain_s)
        self._start_jitter = start_jitter
        self._standby = standby
        self._crashes = crashes
        self._numbers = 0

    # --- for doors ------------------------------------------------------------------------------------

    def submit(self, request: ServedRequest, replica_id: str) -> int | None:
        life = self.lives[replica_id]
        replica = life.replica
        request.answer_tokens = replica.model.answer_fits(request.prompt_tokens, request.answer_tokens)
        if not replica.model.fits(request.prompt_tokens, request.answer_tokens):
            return None
        life.held[request] = None
        request.life = life.life
        replica.submit(request)
        return life.life

    def leave(self, request: ServedRequest) -> None:
        assert request.slot is not None
        life = self.lives[request.slot.id]
        del life.held[request]
        life.replica.leave(request)
        self._end_if_idle(life)

    def life_of(self, replica_id: str) -> int | None:
        life = self.lives.get(replica_id)
        return None if life is None else life.life

    # --- from replicas --------------------------------------------------------------------------------

    def first_token(self, request: ServedRequest) -> None:
        request.door.on_first_token(request)

    def token(self, request: ServedRequest) -> None:
        raise AssertionError("the simulator takes many steps at once")

    def ended(self, request: ServedRequest) -> None:
        life = self.lives[request.replica]
        del life.held[request]
        request.door.on_ended(request)
        if life.state is _S.DRAINING:
            self._end_if_idle(life)

    def preempted(self, request: ServedRequest) -> None:
        """Its replica counts that."""

    # --- come and go ----------------------------------------------------------------------------------

    @property
    def staying(self) -> list[ReplicaLife]:
        """All but those that leave. Who is down for good keeps its place, as in the fleet."""
        return [each for each in self.lives.values() if each.state is not _S.DRAINING]

    def begin(self, wanted: int) -> None:
        """So many, and those in reserve, serve already. With 0 nothing is loaded."""
        self.wanted = wanted
        for _ in range(self._seats):
            self._add(at_once=True)

    @property
    def _seats(self) -> int:
        return self.wanted + self._standby if self.wanted else 0

    def _add(self, *, at_once: bool = False) -> ReplicaLife:
        number = self._numbers
        self._numbers += 1
        now_s = self._timeline.now_s
        replica = SimulatedReplica[ServedRequest](
            f"{self._name}-{number}", self._timing, self._timeline, self
        )
        life = self.lives[replica.id] = ReplicaLife(replica, now_s, self._name)
        if at_once:
            self._serve(life)
        else:
            self._start(life)
        return life

    def drain(self, life: ReplicaLife) -> None:
        """It is to leave. One that does not serve yet just ends."""
        if not life.serves:
            self._end(life)
            return
        life.drains_since_s = self._timeline.now_s
        self._to(life, _S.DRAINING)
        if not self._end_if_idle(life):
            self._timeline.at(life.drains_since_s + self._drain_s, self._look_at_draining, life)

    def _start(self, life: ReplicaLife) -> None:
        self._to(life, _S.STARTING)
        jitter = 1.0 + self._start_jitter * (2 * self._rng.random() - 1) if self._start_jitter else 1.0
        self._timeline.at(
            self._timeline.now_s + self._timing.start_s * jitter, self._on_started, life, life.life
        )

    def _on_started(self, life: ReplicaLife, number: int) -> None:
        if life.state is not _S.STARTING or life.life != number:
            return
        now_s = self._timeline.now_s
        if now_s < self.no_starts_until_s:
            self._to(life, _S.FAILED)
            self._start_again(life, 0.0)
            return
        self._serve(life)

    def _serve(self, life: ReplicaLife) -> None:
        now_s = self._timeline.now_s
        life.ready_s, life.was_ever_ready = now_s, True
        self._to(life, _S.READY)
        if self._crashes is not None:
            after_s = self._crashes.after_s(life.id, life.life)
            self._timeline.at(now_s + after_s, self._crash_by_chance, life, life.life)

    def _crash_by_chance(self, life: ReplicaLife, number: int) -> None:
        if life.life == number:
            self.crash(life)

    def _look_at_draining(self, life: ReplicaLife) -> None:
        if life.state is not _S.DRAINING:
            return
        now_s = self._timeline.now_s
        if now_s - life.drains_since_s >= self._drain_max_s:
            lost = life.replica.crash()
            life.held.clear()
            self._tell_lost(lost, "it had to end while it drained")
            self._end(life)
            return
        if any(each.state is _S.READY for each in self.lives.values()):
            for request in tuple(life.held):
                request.door.hand_over(request)
        if life.state is _S.DRAINING:
            self._timeline.at(now_s + HAND_OVER_AGAIN_S, self._look_at_draining, life)

    def _end_if_idle(self, life: ReplicaLife) -> bool:
        if life.state is not _S.DRAINING or life.held:
            return False
        self._end(life)
        return True

    def _end(self, life: ReplicaLife) -> None:
        if life.state is _S.STOPPED:
            return
        life.state = _S.STOPPED
        life.ended_s = min(life.ended_s, self._timeline.now_s)
        del self.lives[life.id]
        self._note(life)
        self.starts.on_gone(life.id)
        for gateway in self._gateways:
            gateway.gone(gateway.doors[self._name], life.id)

    # --- how many -------------------------------------------------------------------------------------

    def scale_to(self, wanted: int) -> None:
        """So many from now on: new ones start, and those with least to lose leave."""
        self.wanted = wanted
        self._share_roles()
        staying, seats = self.staying, self._seats
        for _ in range(seats - len(staying)):
            self._add()
        if len(staying) > seats:
            for life in self._least_to_lose(staying)[: len(staying) - seats]:
                self.drain(life)

    def _share_roles(self) -> None:
        """Who serves, and who stands by; asked after each change of a replica, as in the fleet."""
        if not self._standby or not self.wanted:
            return
        roles = decide_roles(
            [Standing(each.id, each.state, each.standby) for each in self.lives.values()],
            self.wanted,
            self._standby,
        )
        for life in sorted(self.lives.values(), key=lambda each: roles[each.id]):
            if life.standby != roles[life.id]:
                life.standby = roles[life.id]
                self._publish(life)

    def _least_to_lose(self, staying: Iterable[ReplicaLife]) -> list[ReplicaLife]:
        now_s = self._timeline.now_s
        candidates = [
            Candidate(
                each.id,
                each.state,
                in_flight=len(each.held),
                served_s=self.starts.served_s(each.id, now_s),
                standby=each.standby,
            )
            for each in staying
        ]
        return [self.lives[id] for id in least_to_lose(candidates)]

    # --- readings -------------------------------------------------------------------------------------

    def begin_reading(self) -> None:
        """The sample of GPUs' use begins."""
        now_s = self._timeline.now_s
        for life in self.lives.values():
            life.busy_s, life.busy_at_s = life.replica.busy_s, now_s

    def read(self) -> None:
        """Ask engines and GPUs."""
        now_s = self._timeline.now_s
        for life in self.lives.values():
            if life.serves and life.frozen_at_s is None and now_s >= life.tells_nothing_until_s:
                life.reading = self._reading(life, now_s)

    def poll(self) -> list[ReplicaLoad]:
        """Ask them, and begin the next sample; what those tell that serve."""
        self.read()
        self.begin_reading()
        return [each.reading for each in self.lives.values() if each.serves and each.reading is not None]

    def _reading(self, life: ReplicaLife, now_s: float) -> ReplicaLoad:
        replica = life.replica
        passed_s = now_s - life.busy_at_s
        busy = min((replica.busy_s - life.busy_s) / passed_s, 1.0) if passed_s > 0 else None
        return ReplicaLoad(
            life.id,
            now_s,
            running=replica.running,
            waiting=replica.waiting,
            kv_cache_use=replica.kv_use,
            gpu_use=busy,
            prefix_query_tokens=replica.model.prompt_tokens,
            prefix_hit_tokens=replica.model.cached_tokens,
            preemptions=replica.model.preemptions,
        )

    # --- figures --------------------------------------------------------------------------------------

    def note_all(self) -> None:
        """The simulation is over: what is there is added to what was there."""
        for life in self.lives.values():
            self._note(life)

    def _note(self, life: ReplicaLife) -> None:
        self.past.add(life, sum(gateway.set_aside(life.id) for gateway in self._gateways))

    # --- failures -------------------------------------------------------------------------------------

    def crash(self, life: ReplicaLife, because: str = "its process has ended") -> None:
        """Its engine ends by itself."""
        if not life.serves and life.state is not _S.DRAINING:
            return
        was_draining = life.state is _S.DRAINING
        now_s = self._timeline.now_s
        ready_for_s = 0.0 if life.ready_s is None else now_s - life.ready_s
        lost = life.replica.crash()
        life.held.clear()
        life.ready_s = life.frozen_at_s = None
        self._to(life, _S.FAILED)
        self._tell_lost(lost, because)
        if was_draining:
            self._end(life)
        else:
            self._start_again(life, ready_for_s)

    def _start_again(self, life: ReplicaLife, ready_for_s: float) -> None:
        now_s = self._timeline.now_s
        life.crashes.append(Crash(now_s, ready_for_s))
        decision = decide_restart(
            life.crashes, now_s, self._restart, was_ever_ready=life.was_ever_ready, retryable=True
        )
        if isinstance(decision, RestartAfter):
            life.life += 1
            self._to(life, _S.PENDING)
            self._timeline.at(now_s + decision.wait_s, self._restart_now, life, life.life)
        else:
            life.ended_s = now_s  # nothing runs there, and nothing is paid

    def _restart_now(self, life: ReplicaLife, number: int) -> None:
        if life.state is _S.PENDING and life.life == number:
            self._start(life)

    def freeze(self, life: ReplicaLife, for_s: float) -> None:
        """It hangs. Gateways and fleet find out as production would."""
        if not life.serves or life.frozen_at_s is not None:
            return
        now_s = life.frozen_at_s = self._timeline.now_s
        life.replica.freeze()
        self._timeline.at(now_s + for_s, self._thaw, life, now_s)
        self._timeline.at(now_s + self._health.hand_over_after_s, self._suspect, life, now_s)
        self._timeline.at(now_s + self._health.stuck_after_s, self._kill, life, now_s)

    def _thaw(self, life: ReplicaLife, frozen_at_s: float) -> None:
        if life.frozen_at_s != frozen_at_s:
            return
        life.frozen_at_s = None
        life.replica.thaw()
        if life.state is _S.SUSPECT:
            self._to(life, _S.READY)

    def _suspect(self, life: ReplicaLife, frozen_at_s: float) -> None:
        if life.frozen_at_s != frozen_at_s or not life.serves:
            return
        if life.state is _S.READY:
            self._to(life, _S.SUSPECT)
        for request in tuple(life.held):
            request.door.hand_over(request)
        self._timeline.at(self._timeline.now_s + STUCK_AGAIN_S, self._suspect, life, frozen_at_s)

    def _kill(self, life: ReplicaLife, frozen_at_s: float) -> None:
        if life.frozen_at_s == frozen_at_s:
            self.crash(life, "it hung, and was killed")

    def _tell_lost(self, lost: Sequence[ServedRequest], because: str) -> None:
        for request in lost:
            if not request.is_over:
                request.door.on_lost(request, EngineBroke(because))

    # --- what gateways hear ---------------------------------------------------------------------------

    def _to(self, life: ReplicaLife, state: ReplicaState) -> None:
        life.state = state
        self._publish(life)
        self._share_roles()

    def _publish(self, life: ReplicaLife) -> None:
        view = life.view
        self.starts.on_view(view, self._timeline.now_s)
        for gateway in self._gateways:
            gateway.apply(gateway.doors[self._name], view)
