"""What people ask of a running fleet by hand: scale, drain, undrain, restart, rollout, undo.

One at a time per deployment; whoever comes second is told what is going on, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from inferry.core.deployment_base import ManagedBase
from inferry.core.errors import LifecycleRefused, RolloutFailed, UnknownReplica
from inferry.core.suggest import did_you_mean
from inferry.fleet.hand_scale import HandScales, with_replicas
from inferry.fleet.member import Member
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.reconciler import BY_FILE, Reconciler, start_in_turn
from inferry.fleet.replica_set import ReplicaSet, seats
from inferry.fleet.rollout import Rollout, Surroundings
from inferry.fleet.rollout_progress import RolloutPhase, RolloutProgress
from inferry.fleet.scaler_victims import by_held

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """What a verb did."""

    deployment: str
    message: str
    started: tuple[str, ...] = ()
    """Replicas that came; they need not be ready yet."""
    ended: tuple[str, ...] = ()
    """Replicas whose engines were ended."""


class Doer(Protocol):
    """Runs work on a fleet that runs, to its end even if the caller leaves."""

    async def __call__(
        self, work: Callable[[Surroundings], Coroutine[None, None, T]], drain_s: float
    ) -> T: ...


class Lifecycle:
    """See the module. `drain_s`: how long replicas that leave finish what they have before it is handed over.

    All verbs raise UnknownReplica for a name that is not there, and LifecycleRefused with the reason.
    """

    def __init__(self, reconciler: Reconciler, scales: HandScales, do: Doer) -> None:
        self._reconciler = reconciler
        self._scales = scales
        self._do = do
        self.check_memory: Callable[[DeploymentPlan], None] = lambda plan: None
        """Raises LifecycleRefused if a plan with more replicas than now takes more memory than there is."""

    async def scale(self, name: str, replicas: int, drain_s: float) -> Done:
        """Another number of replicas, until the file says another one than now. Returns when surplus ones have
        left, and added ones have had their turn to start."""
        there = self._deployment(name)
        if not isinstance(there.plan.deployment, ManagedBase) or there.plan.deployment.runs_elsewhere:
            raise LifecycleRefused(f"The replicas of '{name}' are others': list its endpoints in the file.")

        async def work(around: Surroundings) -> Done:
            async with self._alone(there, f"is being scaled to {replicas}"):
                before = set(there.members)
                plan = with_replicas(there.plan, replicas)
                if len(seats(plan)) > len(seats(there.plan)):
                    self.check_memory(plan)
                self._scales.set(name, replicas)
                there.change(plan, self._reconciler.threads_for(plan))
                leavers = there.surplus(by_held(around.leaving.gateway.in_flight))
                await there.retire(leavers, around.leaving, f"scaled to {replicas} by hand")
                await start_in_turn(there.add_missing(), around.group)
                has = f"'{name}' has {replicas} replica(s) now."
                if not there.is_loaded:
                    has = (
                        f"'{name}' gets {replicas} replica(s) when its model is loaded: by the next request, or 'inferry "
                        f"load {name}'."
                    )
                return _done(there, before, f"{has} {self._until(name)}")

        return await self._do(work, drain_s)

    async def drain(self, target: str, drain_s: float) -> Done:
        """Take a replica, or all of a deployment, out: its engine ends when it holds no requests."""
        there, found = self._find(target)
        members = [member for member in found if not member.is_parked]
        if found and not members:
            raise LifecycleRefused(f"'{target}' is drained already. Bring it back: inferry undrain {target}")
        _must_be_loaded(there)

        async def work(around: Surroundings) -> Done:
            async with self._alone(there, f"drains {target}"):
                before = set(there.members)
                back = f"drained by hand; bring it back with: inferry undrain {target}"
                await there.park(members, around.leaving, "drained by hand", back)
            ended = tuple(member.id for member in members)
            message = f"{', '.join(ended)}: drained."
            if not any(member.is_ready for member in there.members.values()):
                message += f" '{there.plan.name}' takes no requests now."
            return replace(_done(there, before, message), ended=ended)

        return await self._do(work, drain_s)

    async def undrain(self, target: str) -> Done:
        """New replicas in the places of drained ones. Returns when they have had their turn to start."""
        there, found = self._find(target)
        members = [member for member in found if member.is_parked]
        if not members:
            raise LifecycleRefused(f"Nothing of '{target}' is drained.")

        async def work(around: Surroundings) -> Done:
            async with self._alone(there, f"brings {target} back"):
                before = set(there.members)
                there.forget_parked(members, around.leaving)
                await start_in_turn(there.add_missing(), around.group)
                done = _done(there, before, "")
            message = f"{', '.join(done.started)} started."
            if not there.is_loaded:
                message = (
                    f"'{there.plan.name}' is drained no more: the next request loads it, or 'inferry load'."
                )
            return replace(done, message=message, ended=())

        return await self._do(work, 0.0)

    async def restart(self, target: str, drain_s: float) -> Done:
        """New replicas in the places of these, one after the other as `rollout:` says."""
        there, found = self._find(target)
        return await self._replace(there, found, target, "restart", drain_s)

    async def rollout(self, name: str, drain_s: float) -> Done:
        """The same for a whole deployment, with a canary first: its programs or files are others than before."""
        there = self._deployment(name)
        return await self._replace(there, there.staying(), name, "rollout", drain_s)

    async def undo(self, name: str) -> str:
        """Have the rollout that is under way taken back; returns why it was, when it is over.

        Of one that is being taken back already, it awaits the end. Raises RolloutFailed when not all could be put back.
        """
        there = self._deployment(name)
        progress = there.rollout
        if progress is None or progress.is_over:
            raise LifecycleRefused(f"No rollout of '{name}' is under way.")
        if progress.phase is not RolloutPhase.ROLLING_BACK:
            progress.undo_wanted = True
        async with there.changing:
            if progress.phase is RolloutPhase.STUCK:
                raise RolloutFailed(
                    f"The rollout of '{name}' was taken back in part only: {progress.because}"
                )
            if progress.reason != BY_FILE:
                return progress.because
            return f"{progress.because}\nThe file still says otherwise: change it there, too."

    def rollouts(self) -> list[RolloutProgress]:
        """The last rollout of each deployment that had one, as it is now."""
        return [replace(each.rollout) for each in self._reconciler.sets.values() if each.rollout is not None]

    def scaled_by_hand(self, name: str) -> int | None:
        """The number of replicas by hand; None: the file's holds."""
        return self._scales.of(name)

    async def auto(self, name: str) -> str:
        """No number by hand any more: its scaling goes on, from where it is. Says so."""
        there = self._deployment(name)
        scaling = self._scales.scaling(name)
        if scaling is None:
            raise LifecycleRefused(
                f"'{name}' is not scaled by itself: its deployment has no 'scaling' in the file. By hand: inferry scale "
                f"{name} N"
            )
        if there.changing.locked():
            raise self._busy(there)
        by_hand = self._scales.release(name)
        bounds = f"between {scaling.min} and {scaling.max}, as the file says"
        if by_hand is None:
            return f"'{name}' scales by itself already, {bounds}."
        return f"'{name}' scales by itself again, from {by_hand} replica(s), {bounds}."

    def is_under_way(self, name: str) -> bool:
        """Whether replicas of this deployment are being replaced."""
        progress = self._deployment(name).rollout
        return progress is not None and not progress.is_over

    async def _replace(
        self, there: ReplicaSet, found: Sequence[Member], target: str, verb: str, drain_s: float
    ) -> Done:
        if not isinstance(there.plan.deployment, ManagedBase) or there.plan.deployment.runs_elsewhere:
            raise LifecycleRefused(f"The engines of '{there.plan.name}' are others': restart them there.")
        members = [member for member in found if not member.is_parked]
        if found and not members:
            raise LifecycleRefused(f"'{target}' is drained. Bring it back: inferry undrain {target}")
        _must_be_loaded(there)

        async def work(around: Surroundings) -> Done:
            async with self._alone(there, f"{verb} of {target}"):
                before = set(there.members)
                reason = f"{verb} of {target} by hand"
                run = Rollout(there, there.plan, there.threads, around, reason=reason)
                why = await run.run(members, canary=verb == "rollout")
                done = _done(there, before, "")
            if why is not None:
                raise RolloutFailed(f"The {verb} of {target} was taken back: {why}")
            return replace(done, message=f"{', '.join(done.ended)} replaced by {', '.join(done.started)}.")

        return await self._do(work, drain_s)

    @asynccontextmanager
    async def _alone(self, there: ReplicaSet, doing: str) -> AsyncIterator[None]:
        name = there.plan.name
        if there.changing.locked():
            raise self._busy(there)
        if self._reconciler.sets.get(name) is not there:
            raise UnknownReplica(f"'{name}' has left the file.")
        async with there.held(doing):
            yield

    def _busy(self, there: ReplicaSet) -> LifecycleRefused:
        name = there.plan.name
        return LifecycleRefused(
            f"Something else is under way at '{name}' ({there.doing}): try again when it is over, see "
            f"'inferry rollout {name} status', or take a rollout back: inferry rollout {name} undo"
        )

    def _deployment(self, name: str) -> ReplicaSet:
        sets = self._reconciler.sets
        if name not in sets:
            raise UnknownReplica(f"There is no deployment '{name}'.{did_you_mean(name, sets)}")
        return sets[name]

    def _find(self, target: str) -> tuple[ReplicaSet, list[Member]]:
        """The deployment that is meant, and those of its replicas that are."""
        sets = self._reconciler.sets
        of_replica = sets.get(target.rpartition("-")[0])
        member = None if of_replica is None else of_replica.members.get(target)
        if target in sets:
            if member is not None:
                raise LifecycleRefused(f"'{target}' names a deployment and a replica: rename the deployment.")
            return sets[target], sets[target].staying()
        if member is None or of_replica is None:
            raise UnknownReplica(f"There is no deployment and no replica '{target}'.{_near(target, sets)}")
        if member.is_leaving:
            raise LifecycleRefused(f"'{target}' is on its way out: it finishes what it has, and ends.")
        return of_replica, [member]

    def _until(self, name: str) -> str:
        by_hand, scaling = self._scales.of(name), self._scales.scaling(name)
        if by_hand is None:
            return "The file says the same."
        if scaling is not None:
            beyond = not scaling.min <= by_hand <= scaling.max
            outside = f", outside of its bounds ({scaling.min} to {scaling.max})" if beyond else ""
            return f"By hand{outside}: its scaling rests until 'inferry scale {name} auto'."
        return f"The file says {self._scales.in_file(name)}: yours holds until that changes."


def _near(target: str, sets: Mapping[str, ReplicaSet]) -> str:
    """What is there; a name that is nearly the same first. Of a replica that is gone, no other one is."""
    known = "; ".join(f"{name} ({', '.join(each.members) or 'none now'})" for name, each in sets.items())
    near = did_you_mean(target, [*sets, *(member for each in sets.values() for member in each.members)])
    if target.rpartition("-")[0] in sets or "Did you mean" not in near:
        near = ""
    return f"{near} There are: {known}."


def _must_be_loaded(there: ReplicaSet) -> None:
    """Raises LifecycleRefused with the way out for a deployment that loads on demand and is not wanted now."""
    if not there.is_loaded:
        name = there.plan.name
        raise LifecycleRefused(f"The model of '{name}' is not loaded. Load it first: inferry load {name}")


def _done(there: ReplicaSet, before: set[str], message: str) -> Done:
    now = set(there.members)
    came = tuple(replica_id for replica_id in there.members if replica_id not in before)
    return Done(there.plan.name, message, came, tuple(sorted(before - now)))
