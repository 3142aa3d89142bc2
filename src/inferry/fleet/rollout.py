"""Replaces replicas of one deployment, step by step, and puts all back if the new ones are no good.

    surge     start new ones ─► ready ─► watch ─► old ones leave ─► again
    in place  old ones leave ─► start new ones ─► ready ─► watch ─► again
    back      the same with the roles swapped and nothing to watch: whoever runs the old version is not replaced

What is watched, and what counts as no good, is in policy/rollout.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from inferry.core.clock import Clock
from inferry.core.deployment_base import ManagedBase
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import Endpoint, ReplicaState
from inferry.core.rollout_settings import Rollout as RolloutSettings
from inferry.engines.adapter import RemoteAdapter
from inferry.fleet.leaving import Leaving
from inferry.fleet.member import Member
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.replica_set import ReplicaSet
from inferry.fleet.rollout_progress import RolloutPhase, RolloutProgress
from inferry.policy.rollout import GoOn, NewReplica, RollBack, Served, judge_rollout

log = structlog.get_logger()

LOOK_S = 0.2
REMOTE_WAIT_S = 60.0
"""For the first answer, or none, of an endpoint that others run."""
UNDONE = "it was taken back by hand"
_SERVES = frozenset({ReplicaState.READY, ReplicaState.SUSPECT})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rollout needs beside its replicas."""

    leaving: Leaving
    group: asyncio.TaskGroup
    clock: Clock
    say: Callable[[str], None] = lambda line: None
    """For the terminal of `inferry up`; must not block or raise."""


class Rollout:
    """One attempt. Whoever runs it holds `there.changing`."""

    def __init__(
        self, there: ReplicaSet, plan: DeploymentPlan, threads: int, around: Surroundings, *, reason: str
    ) -> None:
        self._there = there
        self._plan = plan
        self._threads = threads
        self._around = around
        self._reason = reason
        self._old: list[Member] = []
        """Those to replace that are still there; who leaves first stands last."""
        self._new: list[Member] = []
        self._settings = _settings(plan)
        self._served_before: dict[str, Served] = {}
        """What old ones had served when it began."""
        self._served_gone = Served()
        """What old ones that have left served since then."""

    async def run(self, old: Sequence[Member], *, canary: bool) -> str | None:
        """Replace `old` by as many as the plan wants; None if all went well, or why all is as it was.

        `canary`: compare the first new one with the old ones, for as long as the settings say.
        """
        there = self._there
        self._old = sorted(old, key=_who_stays)
        begun_with = len(old)
        before, threads_before = there.plan, there.threads
        served = self._around.leaving.gateway.served
        self._served_before = {member.id: served(member.id) for member in self._old}
        there.plan, there.threads = self._plan, self._threads
        places = self._places()
        now_wall_s = self._around.clock.wall_s()
        there.rollout = RolloutProgress(there.plan.name, self._reason, now_wall_s, len(places))
        self._step(f"{self._reason}: {_listed(self._old)} to be replaced ({self._settings.strategy})")
        why = await self._forward(places, canary)
        if why is None:
            self._say(RolloutPhase.DONE)
            self._step("done")
            return None
        there.plan, there.threads = before, threads_before
        there.rollout.undo_wanted = False  # what comes back now must be waited for
        self._say(RolloutPhase.ROLLING_BACK, why)
        self._step(f"is taken back: {_first_line(why)}")
        stuck = await self._back(begun_with, why)
        if stuck is not None:
            why = f"{why}\nNot all could be put back: {stuck}"
        self._say(RolloutPhase.ROLLED_BACK if stuck is None else RolloutPhase.STUCK, why)
        self._step(
            "all is as it was" if stuck is None else f"not all could be put back: {_first_line(stuck)}"
        )
        return why

    # --- there ----------------------------------------------------------------------------------------

    async def _forward(self, places: list[Endpoint | None], canary: bool) -> str | None:
        first = True
        while places:
            canary_now = canary and first and self._settings.canary_s > 0 and self._old_serve()
            size = 1 if canary_now else self._step_size()
            if self._settings.strategy == "in_place":
                await self._let_go(min(size, len(self._old)))
            if self._undone():
                return UNDONE
            why = await self._bring_up(places[:size])
            if why is None:
                wanted_s = self._settings.settle_s
                self._say(RolloutPhase.CANARY if canary_now else RolloutPhase.SETTLING)
                if canary_now:
                    wanted_s = max(wanted_s, self._settings.canary_s)
                    self._step(f"{_listed(self._new)} ready; compared with the old ones for {wanted_s:g} s")
                elif wanted_s:
                    self._step(f"{_listed(self._new[-size:])} ready; must stay so for {wanted_s:g} s")
                why = await self._watch(wanted_s)
            if why is not None:
                return why
            del places[:size]
            if self._settings.strategy == "surge":
                await self._let_go(min(size, len(self._old)))
            first = False
        await self._let_go(len(self._old))
        return UNDONE if self._undone() else None

    def _places(self) -> list[Endpoint | None]:
        """One for each new replica: what the plan wants, less what stays."""
        there = self._there
        if isinstance(self._plan.adapter, RemoteAdapter):
            return there.seats()
        staying = len(there.staying()) - len(self._old)
        return [None] * max(len(there.seats()) - staying, 0)

    def _step_size(self) -> int:
        if self._settings.strategy == "surge":
            return self._settings.max_surge + sum(member.keeper.failure is not None for member in self._old)
        ready = sum(member.is_ready for member in self._there.members.values())
        return max(min(self._settings.max_unavailable, ready - 1), 1)

    def _old_serve(self) -> bool:
        return any(member.view.state in _SERVES for member in self._old)

    async def _let_go(self, count: int) -> None:
        if count == 0:
            return
        self._say(RolloutPhase.REPLACING)
        leavers = [self._old.pop() for _ in range(count)]
        self._served_gone += self._served(leavers)
        self._step(f"{_listed(leavers)} leaving, with what is under way finished first")
        await self._there.retire(leavers, self._around.leaving, f"rollout: {self._reason}", self._plan)

    async def _bring_up(self, places: Sequence[Endpoint | None]) -> str | None:
        """None once all are ready, or why one is not."""
        self._say(RolloutPhase.STARTING)
        fresh = [self._there.add_one(place) for place in places]
        self._step(f"{_listed(fresh)} starting")
        for member in fresh:
            self._new.append(member)
            member.start(self._around.group)
        for member in fresh:
            if (why := await self._until_ready(member)) is not None:
                return why
        return None

    async def _until_ready(self, member: Member) -> str | None:
        """Endpoints of others are only waited for until somebody asked them."""
        deployment = self._plan.deployment
        limit_s = (
            REMOTE_WAIT_S
            if isinstance(deployment, OpenAIDeployment) or deployment.runs_elsewhere
            else deployment.start_timeout_s
        )
        loop = asyncio.get_running_loop()
        until_s = loop.time() + limit_s
        while not member.keeper.settled.is_set():
            if self._undone():
                return UNDONE
            left_s = until_s - loop.time()
            if left_s <= 0:
                return f"{member.id} was not ready within {limit_s:g} s: {member.view.message}"
            try:
                async with asyncio.timeout(min(LOOK_S, left_s)):
                    await member.keeper.settled.wait()
            except TimeoutError:
                continue
        failure = member.keeper.failure
        return None if failure is None else f"{member.id}: {failure}"

    async def _watch(self, wanted_s: float) -> str | None:
        """None when the new ones are good, or why not."""
        if isinstance(self._plan.adapter, RemoteAdapter):
            return None
        progress = self._there.rollout
        assert progress is not None
        loop = asyncio.get_running_loop()
        began_s = ready_since_s = loop.time()
        while not self._undone():
            now_s = loop.time()
            if not all(member.is_ready for member in self._new):
                ready_since_s = now_s
            verdict = judge_rollout(
                [_look_at(member) for member in self._new],
                served_new=self._served(self._new),
                served_old=self._served_gone + self._served(self._old),
                watched_s=now_s - began_s,
                ready_s=now_s - ready_since_s,
                wanted_s=wanted_s,
            )
            progress.because = verdict.because
            if isinstance(verdict, GoOn):
                progress.replaced = len(self._new)
                self._step(f"{progress.replaced} of {progress.total} new: {verdict.because}")
                return None
            if isinstance(verdict, RollBack):
                return verdict.because
            await asyncio.sleep(LOOK_S)
        return UNDONE

    def _served(self, members: Sequence[Member]) -> Served:
        """Since it began."""
        total = Served()
        for member in members:
            now = self._around.leaving.gateway.served(member.id)
            total += now.since(self._served_before.get(member.id, Served()))
        return total

    def _undone(self) -> bool:
        progress = self._there.rollout
        return progress is not None and progress.undo_wanted

    # --- and back -------------------------------------------------------------------------------------

    async def _back(self, begun_with: int, because: str) -> str | None:
        """As many of the old version as there were, and none of the new; or why that could not be."""
        missing = begun_with - len(self._old)
        surplus = max(len(self._new) - missing, 0)
        await self._withdraw(max(surplus, 1) if self._settings.strategy == "in_place" else surplus, because)
        for _ in range(missing):
            member = self._there.add_one()
            self._step(f"{member.id} starting, of the old version")
            member.start(self._around.group)
            if (why := await self._until_ready(member)) is not None:
                return why
            await self._withdraw(1, because)
        await self._withdraw(len(self._new), because)
        return None

    async def _withdraw(self, count: int, because: str) -> None:
        """New ones leave, the youngest first. What they have is handed over at once: they may be no good."""
        leavers = [self._new.pop() for _ in range(min(count, len(self._new)))]
        if leavers:
            self._step(f"{_listed(leavers)} leaving")
            leaving = self._around.leaving.with_drain(0.0)
            await self._there.retire(leavers, leaving, f"rolled back: {because}", self._there.plan)

    def _step(self, text: str) -> None:
        """For people who watch."""
        progress = self._there.rollout
        assert progress is not None
        progress.steps.append(text)
        self._around.say(f"{progress.deployment}: {text}")

    def _say(self, phase: RolloutPhase, because: str | None = None) -> None:
        """Enter a phase; what the last decision rested on stays until there is another one."""
        progress = self._there.rollout
        assert progress is not None
        progress.phase = phase
        if because is not None:
            progress.because = because
        progress.new = tuple(member.id for member in self._new)
        if progress.is_over:
            progress.ended_wall_s = self._around.clock.wall_s()
        log.info(
            "rollout",
            deployment=progress.deployment,
            reason=progress.reason,
            phase=phase.value,
            replaced=f"{progress.replaced} of {progress.total}",
            because=_first_line(progress.because),
        )


def _settings(plan: DeploymentPlan) -> RolloutSettings:
    return plan.deployment.rollout if isinstance(plan.deployment, ManagedBase) else RolloutSettings()


def _who_stays(member: Member) -> tuple[bool, bool, bool]:
    """Sorts those to the end that are missed least."""
    return member.keeper.failure is not None, member.view.state not in _SERVES, member.view.standby


def _look_at(member: Member) -> NewReplica:
    view = member.view
    return NewReplica(view.id, view.state, view.restarts, view.message)


def _listed(members: Sequence[Member]) -> str:
    return ", ".join(member.id for member in members) or "nothing"


def _first_line(text: str) -> str:
    return text.partition("\n")[0]
