"""Notes for the planner what each launch was predicted to take, and what it took. Never in the way of serving.

One task looks at the replicas now and then. Of each life of a replica that became ready it writes one record; and one
more when it has been busy for a while, of its speed. Whatever goes wrong costs a record and a line in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from inferry.core.clock import Clock
from inferry.core.replica import ReplicaLoad, ReplicaState, ReplicaView
from inferry.engines.launch_report import read_launch
from inferry.fleet.launch_journal import append_launch
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.learning import Launch
from inferry.planner.load import Load

log = structlog.get_logger()

LOOK_S = 5.0
BUSY_S = 30.0
"""So long it must have had requests before its speed is noted: by then it is no accident."""
TOKENS_MIN = 500
ANSWER_TOKENS = 128.0
"""Counters tell how many tokens were read for each that was written, not how long answers are."""
LOG_BYTES_MAX = 512 * 1024
"""Of the beginning of this life's log, where engines tell of their memory; starts print some 50 KB."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What the planner says of a deployment before it starts."""

    engine: str
    """In the planner's words."""
    device: str
    model: str
    family: str = ""
    weights: str = ""
    engine_version: str | None = None
    predicted: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)
    speed: Callable[[Load], Mapping[str, float]] = lambda load: {}
    """`itl_ms`, `ttft_ms` and `output_tokens_per_s` of one replica, without correction; empty where nobody knows."""

    def launch(self, wall_s: float, predicted: Mapping[str, float], measured: Mapping[str, float]) -> Launch:
        """A record of it."""
        return Launch(
            wall_s=wall_s,
            engine=self.engine,
            engine_version=self.engine_version,
            device=self.device,
            model=self.model,
            family=self.family,
            weights=self.weights,
            predicted=predicted,
            expected={name: value for name, value in self.expected.items() if name in predicted},
            measured=measured,
        )


@dataclass(slots=True)
class _Life:
    """One engine process that became ready."""

    noted: bool = False
    rated: bool = False
    seen_s: float | None = None
    tokens: int | None = None
    prompt_tokens: int | None = None
    busy_s: float = 0.0
    request_s: float = 0.0
    """Running requests, over time."""
    new_tokens: int = 0
    new_prompt_tokens: int = 0


class LaunchNotes:
    """See the module."""

    def __init__(
        self,
        readings: Callable[[], Sequence[tuple[ReplicaView, ReplicaLoad | None]]],
        plans: Callable[[], Sequence[DeploymentPlan]],
        foresee: Callable[[DeploymentPlan], Foresight | None],
        measure: Callable[[Collection[int]], Mapping[int, int]],
        home: Path,
        clock: Clock,
    ) -> None:
        """`foresee` and `measure` (bytes by process group) are called in a thread."""
        self._readings = readings
        self._plans = plans
        self._foresee = foresee
        self._measure = measure
        self._home = home
        self._clock = clock
        self._lives: dict[tuple[str, float], _Life] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                # A bug of ours, a full disk, a model that the planner can't read: none of it may end serving.
                log.exception("launch_not_noted")

    async def look(self) -> None:
        """Note what is new."""
        plans = {plan.name: plan for plan in self._plans()}
        lives: dict[tuple[str, float], _Life] = {}
        for view, reading in self._readings():
            if view.state is not ReplicaState.READY or view.simulated or view.started_wall_s is None:
                continue
            plan = plans.get(view.deployment)
            if plan is None or view.pid is None:
                continue
            key = (view.id, view.started_wall_s)
            life = lives[key] = self._lives.get(key) or _Life()
            self._lives[key] = life
            if not life.noted:
                life.noted = True
                await asyncio.to_thread(self._note_start, plan, view)
            elif not life.rated and self._watch(life, view, reading):
                life.rated = True
                await asyncio.to_thread(self._note_speed, plan, life)
        self._lives = lives

    def _note_start(self, plan: DeploymentPlan, view: ReplicaView) -> None:
        foresight = self._foresee(plan)
        if foresight is None or view.pid is None or view.started_wall_s is None:
            return
        measured = {"start_s": max(view.since_wall_s - view.started_wall_s, 0.0)}
        measured |= read_launch(foresight.engine, _first_lines(view.log_path))
        if "memory_bytes" in foresight.predicted and (held := self._measure([view.pid]).get(view.pid)):
            measured["memory_bytes"] = float(held)
        self._write(plan, foresight, foresight.predicted, measured)

    def _watch(self, life: _Life, view: ReplicaView, reading: ReplicaLoad | None) -> bool:
        """Whether it has been busy for long enough. An idle look begins anew where tokens were not counted."""
        now_s, tokens, prompts = self._clock.now_s(), view.tokens_generated, view.tokens_prompt
        before_s, before, before_prompts = life.seen_s, life.tokens, life.prompt_tokens
        life.seen_s, life.tokens, life.prompt_tokens = now_s, tokens, prompts
        running = None if reading is None else reading.running
        if not running or tokens is None or before is None or before_s is None or tokens <= before:
            return False
        life.busy_s += now_s - before_s
        life.request_s += running * (now_s - before_s)
        life.new_tokens += tokens - before
        life.new_prompt_tokens += max((prompts or 0) - (before_prompts or 0), 0)
        return life.busy_s >= BUSY_S and life.new_tokens >= TOKENS_MIN

    def _note_speed(self, plan: DeploymentPlan, life: _Life) -> None:
        foresight = self._foresee(plan)
        if foresight is None:
            return
        running = life.request_s / life.busy_s
        prompt_tokens = ANSWER_TOKENS * life.new_prompt_tokens / life.new_tokens
        predicted = foresight.speed(Load(prompt_tokens, ANSWER_TOKENS, concurrency=max(running, 1.0)))
        measured = {
            "itl_ms": 1e3 * life.request_s / life.new_tokens,
            "output_tokens_per_s": life.new_tokens / life.busy_s,
        }
        foreseen = {name: value for name, value in predicted.items() if name in measured}
        self._write(plan, foresight, foreseen, measured)

    def _write(
        self,
        plan: DeploymentPlan,
        foresight: Foresight,
        predicted: Mapping[str, float],
        measured: Mapping[str, float],
    ) -> None:
        append_launch(self._home, foresight.launch(self._clock.wall_s(), predicted, measured))
        log.info("launch_noted", deployment=plan.name, predicted=dict(predicted), measured=dict(measured))


def _first_lines(path: str | None) -> list[str]:
    """Of the log, from the end backwards as far as a start can reach; [] where it can't be read."""
    if path is None:
        return []
    try:
        with Path(path).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - LOG_BYTES_MAX, 0))
            return file.read(LOG_BYTES_MAX).decode(errors="replace").splitlines()
    except OSError:
        return []
