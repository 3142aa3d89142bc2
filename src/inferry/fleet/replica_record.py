"""What is known of one replica, and the only place that changes it. Owned by the replica's keeper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from inferry.core.clock import Clock
from inferry.core.replica import (
    TRANSITIONS,
    Endpoint,
    HealthVerdict,
    ReplicaLoad,
    ReplicaState,
    ReplicaView,
)
from inferry.engines.adapter import EngineMetrics

log = structlog.get_logger()

_JUDGED = frozenset({ReplicaState.READY, ReplicaState.SUSPECT, ReplicaState.DRAINING})
_ALARMING = frozenset({ReplicaState.SUSPECT, ReplicaState.FAILED})


class ReplicaRecord:
    """The current view, published at each change of state, place or message."""

    def __init__(self, view: ReplicaView, clock: Clock, on_change: Callable[[ReplicaView], None]) -> None:
        self._view = view
        self._clock = clock
        self._on_change = on_change
        self.own_metrics: frozenset[str] = frozenset()
        """Metrics of its engine that scaling rules name."""
        self.reading: ReplicaLoad | None = None
        """What its engine told of its load last; None: nothing in this life."""
        self.after_move: Callable[[], None] = lambda: None
        """Called when a move has been published: what it means for the others."""

    @property
    def view(self) -> ReplicaView:
        return self._view

    @property
    def state(self) -> ReplicaState:
        return self._view.state

    def move(self, state: ReplicaState, message: str = "") -> None:
        """Enter `state`; one that can't follow the current one is a bug of ours."""
        was = self._view.state
        assert state in TRANSITIONS[was], f"{self._view.id}: {was} -> {state}"
        verdict = self._view.verdict if state in _JUDGED else None
        if state is ReplicaState.FAILED:
            verdict = HealthVerdict.DEAD
        elif state is ReplicaState.READY and verdict is None:
            verdict = HealthVerdict.OK
        self._view = replace(
            self._view, state=state, message=message, since_wall_s=self._clock.wall_s(), verdict=verdict
        )
        level = log.warning if state in _ALARMING else log.info
        level(
            "replica_state",
            replica=self._view.id,
            state=state.value,
            was=was.value,
            because=message.partition("\n")[0],
        )
        self._on_change(self._view)
        self.after_move()

    def stand_by(self, standby: bool) -> None:
        """Whether it is kept in reserve from now on. While it is pending, published with the next change."""
        if standby != self._view.standby:
            self._view = replace(self._view, standby=standby)
            if self.state is not ReplicaState.PENDING:
                log.info("replica_role", replica=self._view.id, standby=standby)
                self._on_change(self._view)

    def take_out(self) -> None:
        """By hand, for good. Published with the next change."""
        self._view = replace(self._view, drained=True)

    def judge(self, verdict: HealthVerdict) -> None:
        """What its signs of life say. Not published: readers of `view` see it, and each move tells of it."""
        if verdict is not self._view.verdict:
            self._view = replace(self._view, verdict=verdict)

    def say(self, message: str) -> None:
        """What it is doing within its state."""
        if message != self._view.message:
            self._view = replace(self._view, message=message)
            self._on_change(self._view)

    def place(self, endpoint: Endpoint | None, pid: int | None, log_path: str | None) -> None:
        """Where it is now; published with the next change."""
        self._view = replace(self._view, endpoint=endpoint, pid=pid, log_path=log_path)

    def weigh(self, weight: float) -> None:
        """How much it can take beside the others; published at once, unless nothing has been yet."""
        if weight != self._view.weight:
            self._view = replace(self._view, weight=weight)
            if self._view.state is not ReplicaState.PENDING:
                self._on_change(self._view)

    def begin_life(self, started_wall_s: float, has_counters: bool) -> None:
        """A new engine process. Published with the next change."""
        self.reading = None
        zero = 0 if has_counters else None
        self._view = replace(
            self._view,
            started_wall_s=started_wall_s,
            counted_wall_s=started_wall_s if has_counters else None,
            tokens_generated=zero,
            tokens_prompt=zero,
        )

    def count_tokens(self, metrics: EngineMetrics, asked_wall_s: float) -> None:
        """The engine's counters and load, as of then. Not published: readers of `view` and `reading` see them."""
        self.reading = ReplicaLoad(
            self._view.id,
            self._clock.now_s(),
            running=metrics.running,
            waiting=metrics.waiting,
            kv_cache_use=metrics.kv_cache_use,
            prefix_query_tokens=metrics.prefix_query_tokens,
            prefix_hit_tokens=metrics.prefix_hit_tokens,
            preemptions=metrics.preemptions,
            gpu_use=metrics.gpu_use,
            own=metrics.own,
        )
        if metrics.tokens_generated is not None:
            self._view = replace(
                self._view,
                tokens_generated=metrics.tokens_generated,
                tokens_prompt=metrics.tokens_prompt,
                counted_wall_s=asked_wall_s,
            )

    def count_restart(self) -> None:
        self._view = replace(self._view, restarts=self._view.restarts + 1)
