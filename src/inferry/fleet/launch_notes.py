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
from inferry.planner.answers import Performance
from inferry.planner.learning import REST, Launch
from inferry.planner.load import Load
from inferry.planner.setup import Setup

log = structlog.get_logger()

LOOK_S = 5.0
BUSY_S = 60.0
"""So long without a pause it must have had requests before its speed is noted: by then it is no accident."""
RUNNING_MIN = 2
"""At each look. Where requests come and go between looks, how many there were is a guess: arrivals at random that kept
three at once busy were noted within 3 % in the middle (simulated), those that kept one busy 40 % too slow."""
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
    setup: Setup | None = None
    kv_bytes: float = 0.0
    """Of the cache, on one device; `predicted` tells its tokens. 0: not known."""
    copies: int = 1
    """Of the model in one replica: each prints the tokens of its own cache."""
    predicted: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, float] = field(default_factory=dict)
    speed: Callable[[Load], Mapping[str, float]] = lambda load: {}
    """`itl_ms`, `ttft_ms` and `output_tokens_per_s` of one replica, without correction; empty where nobody knows."""
    performance: Callable[[Load], Performance] | None = None
    """The same, whole; None where nobody knows."""

    def told(self, printed: Mapping[str, float]) -> dict[str, float]:
        """What an engine printed, of the whole replica; and what one device holds besides the cache."""
        found = dict(printed)
        tokens, foreseen = found.get("kv_tokens"), self.predicted.get("kv_tokens")
        if tokens is None:
            return found
        found["kv_tokens"] = tokens = tokens * self.copies
        if foreseen and self.kv_bytes and REST in self.predicted:
            found[REST] = self.predicted[REST] + self.kv_bytes * (1 - tokens / foreseen)
        return found

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
            setup=self.setup,
            predicted=predicted,
            expected={name: value for name, value in self.expected.items() if name in measured},
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
    running: int = 0
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
            plan = plans.get(view.deployment)
            if view.simulated or view.started_wall_s is None or view.pid is None or plan is None:
                continue
            key = (view.id, view.started_wall_s)
            # Kept through bad moments too: a replica that comes back from one has not started again.
            life = lives[key] = self._lives.get(key) or _Life()
            self._lives[key] = life
            if view.state is not ReplicaState.READY:
                continue
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
        measured |= foresight.told(read_launch(foresight.engine, _first_lines(view.log_path)))
        if "memory_bytes" in foresight.predicted and (held := self._measure([view.pid]).get(view.pid)):
            measured["memory_bytes"] = float(held)
        self._write(plan, foresight, foresight.predicted, measured)

    def _watch(self, life: _Life, view: ReplicaView, reading: ReplicaLoad | None) -> bool:
        """Whether it has been busy for long enough. A look at which it is not, begins anew."""
        now_s, tokens, prompts = self._clock.now_s(), view.tokens_generated, view.tokens_prompt
        running = 0 if reading is None else reading.running or 0
        before_s, before, before_prompts, ran = life.seen_s, life.tokens, life.prompt_tokens, life.running
        life.seen_s, life.tokens, life.prompt_tokens, life.running = now_s, tokens, prompts, running
        if (
            min(running, ran) < RUNNING_MIN
            or tokens is None
            or before is None
            or before_s is None
            or tokens <= before
        ):
            life.busy_s = life.request_s = 0.0
            life.new_tokens = life.new_prompt_tokens = 0
            return False
        life.busy_s += now_s - before_s
        life.request_s += (running + ran) / 2 * (now_s - before_s)
        life.new_tokens += tokens - before
        life.new_prompt_tokens += max((prompts or 0) - (before_prompts or 0), 0)
        return life.busy_s >= BUSY_S and life.new_tokens >= TOKENS_MIN

    def _note_speed(self, plan: DeploymentPlan, life: _Life) -> None:
        foresight = self._foresee(plan)
        if foresight is None:
            return
        running = life.request_s / life.busy_s
        prompt_tokens = ANSWER_TOKENS * life.new_prompt_tokens / life.new_tokens
        predicted = foresight.speed(Load(prompt_tokens, ANSWER_TOKENS, concurrency=running))
        # Not the time between tokens: counters don't tell it from the time that prompts take.
        measured = {"output_tokens_per_s": life.new_tokens / life.busy_s}
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
