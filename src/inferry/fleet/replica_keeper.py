"""Keeps one replica that we run ourselves: starts its engine, looks after it, starts it again when it ends.

One task (`run`) owns the replica's record. When the fleet stops, it cancels and awaits that task, and only
then calls `drain` and `end`: there are never two who move a replica.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from inferry.core.clock import Clock
from inferry.core.deployment import ManagedDeployment
from inferry.core.errors import ConfigError
from inferry.core.launch import LaunchOrder, LaunchSpec, Needs, Seat
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import Endpoint, ReplicaProgress, ReplicaState, ReplicaView
from inferry.engines.adapter import LaunchableAdapter, LaunchContext
from inferry.engines.gpus import VISIBLE_GPUS, gpus_needed
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.probe import Prober
from inferry.fleet.replica_care import ReplicaCare
from inferry.fleet.replica_record import ReplicaRecord
from inferry.policy.restart import Crash, RestartAfter, StayDown, decide_restart
from inferry.runtime.base import Exit, Handle, Runtime

log = structlog.get_logger()

LOG_LINES = 10
LAST_LOOK_S = 1.0
"""For its counters, before an engine is stopped."""
CRASHES_MAX = 1001
"""To remember; above the file's bound of restart.crashes_max."""


@dataclass(frozen=True, slots=True)
class _Life:
    """How one run of the engine ended."""

    message: str
    retryable: bool
    ready_for_s: float
    log_lines: str = ""


class ReplicaKeeper:
    """See the module. `settled` is set once it is ready or has given up, `had_turn` also by a first crash."""

    def __init__(
        self,
        record: ReplicaRecord,
        deployment: ManagedDeployment,
        adapter: LaunchableAdapter,
        model_path: Path | None,
        threads: int,
        runtime: Runtime,
        prober: Prober,
        clock: Clock,
        rng: random.Random,
        environ: Mapping[str, str],
        hand_over: Callable[[str, str], None],
        before_ready: Callable[[ReplicaView, Endpoint], Awaitable[None]],
        gpu_seat: int = 0,
    ) -> None:
        self.record = record
        self.settled = asyncio.Event()
        self.had_turn = asyncio.Event()
        self.failure: str | None = None
        """Why it stays down; None while there is hope."""
        self._deployment = deployment
        self._adapter = adapter
        self._model_path = model_path
        self._threads = threads
        self._runtime = runtime
        self._prober = prober
        self._clock = clock
        self._rng = rng
        self._environ = environ
        self._hand_over = hand_over
        self._before_ready = before_ready
        self._gpu_seat = gpu_seat
        self._handle: Handle | None = None
        self._care: ReplicaCare | None = None
        self._start_limit: asyncio.Timeout | None = None
        """While its engine starts: when it must be ready."""
        self._was_ever_ready = False
        self._crashes: deque[Crash] = deque(maxlen=CRASHES_MAX)
        self._name_metrics()

    def change(self, plan: DeploymentPlan, threads: int) -> None:
        """Settings of a new file that fit the engine as it runs; a new start takes all of them."""
        assert isinstance(plan.adapter, LaunchableAdapter)
        assert not isinstance(plan.deployment, OpenAIDeployment)
        if self._start_limit is not None and not self._start_limit.expired():
            began_s = (self._start_limit.when() or 0.0) - self._deployment.start_timeout_s
            self._start_limit.reschedule(began_s + plan.deployment.start_timeout_s)
        self._deployment, self._adapter, self._threads = plan.deployment, plan.adapter, threads
        self._name_metrics()
        if self._care is not None:
            self._care.change(plan.deployment.health, plan.adapter)

    def _name_metrics(self) -> None:
        scaling = self._deployment.scaling
        self.record.own_metrics = frozenset() if scaling is None else scaling.own_metrics

    def report_failure(self, reason: str) -> None:
        """The gateway could not use this replica; probe it now."""
        if self._care is not None:
            self._care.report_failure(reason)

    def note_progress(self, source: str, seen: ReplicaProgress | None) -> None:
        """What a gateway process sees of its requests here; None: it has none."""
        if self._care is not None:
            self._care.note_progress(source, seen)

    async def run(self) -> None:
        """Until it is given up, or cancelled."""
        try:
            await self._keep_alive()
        finally:
            self._care = None
            self.had_turn.set()

    def drain(self) -> None:
        """Publish that no new requests are welcome."""
        state = self.record.state
        if state is ReplicaState.PENDING or (state is ReplicaState.FAILED and self.failure is None):
            self.record.move(ReplicaState.STOPPED)
        elif state not in (ReplicaState.STOPPED, ReplicaState.FAILED, ReplicaState.DRAINING):
            self.record.move(ReplicaState.DRAINING)

    async def end(self) -> None:
        """Stop the engine, if there is one."""
        if self._handle is not None:
            await self._count_last()
            await self._runtime.stop(self._handle, self._deployment.stop_grace_s)
            self._handle = None
        self.record.place(None, None, self.record.view.log_path)
        if self.record.state is ReplicaState.DRAINING:
            self.record.move(ReplicaState.STOPPED)
        self.settled.set()

    async def _count_last(self) -> None:
        """What the engine counted up to its end; its requests are over."""
        endpoint = self.record.view.endpoint
        if endpoint is not None:
            asked_wall_s = self._clock.wall_s()
            metrics = await self._prober.metrics(
                self._adapter, endpoint, LAST_LOOK_S, self.record.own_metrics
            )
            if metrics is not None:
                self.record.count_tokens(metrics, asked_wall_s)

    async def _keep_alive(self) -> None:
        while True:
            try:
                life = await self._live()
            except ConfigError as error:  # among them StartFailed
                self._give_up(error.message)
                return
            except Exception as error:
                # A bug of ours must neither take the other replicas down with it nor this one for good.
                log.exception("replica_keeper_broke", replica=self.record.view.id)
                life = await self._end_after_fault(error)
            self.had_turn.set()
            now_s = self._clock.now_s()
            self._crashes.append(Crash(now_s, life.ready_for_s))
            match decide_restart(
                self._crashes,
                now_s,
                self._deployment.restart,
                was_ever_ready=self._was_ever_ready,
                retryable=life.retryable,
            ):
                case StayDown(because):
                    self._give_up(f"{life.message}; {because}.{life.log_lines}")
                    return
                case RestartAfter(wait_s, because):
                    # Spread a little: replicas that died together should not load together.
                    wait_s *= self._rng.uniform(1.0, 1.2)
                    self.record.move(
                        ReplicaState.PENDING, f"{life.message}; starts again in {wait_s:.1f} s ({because})"
                    )
                    await asyncio.sleep(wait_s)
                    self.record.count_restart()

    async def _live(self) -> _Life:
        """One run of the engine, from start to an end that nobody wished for."""
        self.record.begin_life(self._clock.wall_s(), self._adapter.metrics_path is not None)
        self.record.move(ReplicaState.STARTING)
        order = LaunchOrder(
            self.record.view.id,
            self.record.view.deployment,
            Needs(gpus_needed(self._deployment), self._model_path),
            self._spec_at,
            self.record.say,
        )
        handle = await self._runtime.start(order)
        self._handle = handle
        endpoint = handle.endpoint
        self.record.place(endpoint, handle.pid, str(handle.log_path))
        care = ReplicaCare(
            self.record,
            self._adapter,
            endpoint,
            self._deployment.health,
            self._prober,
            self._clock,
            process=handle,
            hand_over=self._hand_over,
            before_ready=lambda: self._before_ready(self.record.view, endpoint),
        )
        self._care = care
        try:
            async with asyncio.TaskGroup() as group:
                ended = group.create_task(handle.ended())
                caring = group.create_task(self._look_after(care))
                await asyncio.wait((ended, caring), return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                caring.cancel()
        finally:
            self._care = None
        # From here on this task is the only one to move the record again. Tell the gateway first.
        exit = None if ended.cancelled() else ended.result()
        ready_for_s = 0.0 if care.ready_since_s is None else self._clock.now_s() - care.ready_since_s
        self.record.place(None, None, str(handle.log_path))
        if exit is None:
            message, retryable = caring.result(), True
            self.record.move(ReplicaState.FAILED, message)
            # One that was ready and is ended here does nothing any more: it would not hear a polite word either.
            grace_s = 0.0 if ready_for_s else self._deployment.stop_grace_s
            await self._runtime.stop(handle, grace_s)
        else:
            self.record.move(ReplicaState.FAILED, self._read_exit(exit, handle)[0])
            await handle.wait()  # now the log is complete
            message, retryable = self._read_exit(exit, handle)
        self._handle = None
        return _Life(message, retryable, ready_for_s, _last_lines(handle))

    def _spec_at(self, seat: Seat) -> LaunchSpec:
        context = LaunchContext(
            replica_id=self.record.view.id,
            host=seat.host,
            port=seat.port,
            model_path=self._model_path,
            served_name=self._adapter.served_name,
            threads=seat.threads or self._threads,
            secret=secrets.token_urlsafe(32),
            folder=seat.folder,
            gpu_seat=self._gpu_seat,
        )
        spec = self._adapter.launch(context, self._environ)
        if not seat.has_own_gpus:
            return spec
        env = {name: value for name, value in spec.env.items() if name != VISIBLE_GPUS}
        return replace(spec, env=env)

    async def _look_after(self, care: ReplicaCare) -> str:
        """Returns why the engine must be ended: it was not ready in time, or it is stuck."""
        try:
            async with asyncio.timeout(self._deployment.start_timeout_s) as self._start_limit:
                await care.until_ready()
        except TimeoutError:
            return (
                f"it was not ready within {self._deployment.start_timeout_s:g} s: {self.record.view.message}"
            )
        finally:
            self._start_limit = None
        self._was_ever_ready = True
        self.settled.set()
        self.had_turn.set()
        return f"it was stuck, and is killed: {await care.stay()}"

    async def _end_after_fault(self, error: Exception) -> _Life:
        """As if the engine had crashed: the restart policy decides how often this may happen."""
        message = f"internal error, please report it: {error!r}"
        log_path = self.record.view.log_path
        self.record.place(None, None, log_path)
        if self.record.state is not ReplicaState.FAILED:
            self.record.move(ReplicaState.FAILED, message)
        if self._handle is not None:
            await self._runtime.stop(self._handle, 0)
            self._handle = None
        return _Life(message, True, 0.0)

    def _read_exit(self, exit: Exit, handle: Handle) -> tuple[str, bool]:
        if exit.because:
            return exit.because, True
        reading = self._adapter.read_exit(exit.code, handle.log_tail())
        return reading.message, reading.retryable

    def _give_up(self, message: str) -> None:
        self.failure = message
        if self.record.state is ReplicaState.FAILED:
            self.record.say(message)
        else:
            self.record.move(ReplicaState.FAILED, message)
        self.settled.set()


def _last_lines(handle: Handle) -> str:
    lines: Sequence[str] = handle.log_tail()[-LOG_LINES:]
    if not lines:
        return f" It printed nothing ({handle.log_path})."
    # On lines of their own: many show the first line only.
    return "".join([f"\n  The last lines of {handle.log_path}:", *(f"\n    {line}" for line in lines)])
