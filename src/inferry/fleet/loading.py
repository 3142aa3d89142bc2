"""Gives a deployment that loads on demand its replicas, or takes them all away. Decides nothing: see model_swap.py."""

from __future__ import annotations

from inferry.fleet.hand_scale import HandScales, with_replicas
from inferry.fleet.lifecycle import Doer
from inferry.fleet.member import Member
from inferry.fleet.reconciler import Reconciler
from inferry.fleet.replica_set import ReplicaSet
from inferry.fleet.rollout import Surroundings


class Loading:
    """The fleet's replicas, as far as loading and unloading goes. Verbs raise ConfigError when it does not run."""

    def __init__(self, reconciler: Reconciler, scales: HandScales, do: Doer) -> None:
        self._reconciler = reconciler
        self._scales = scales
        self._do = do

    def is_loaded(self, name: str) -> bool:
        """Whether it has replicas that are not drained, or is to have some."""
        there = self._reconciler.sets.get(name)
        return there is not None and (there.is_loaded or bool(_running(there)))

    def failure(self, name: str) -> str | None:
        """Why none of its replicas will ever come up, in one line; None while there is hope."""
        there = self._reconciler.sets.get(name)
        members = [] if there is None else _running(there)
        failures = [member.keeper.failure for member in members]
        if not failures or None in failures:
            return None
        return f"{members[0].id}: {failures[0]}".partition("\n")[0]

    async def load(self, name: str) -> bool:
        """Begin to start its replicas. False: there is no such deployment now."""

        async def work(around: Surroundings) -> bool:
            there = self._reconciler.sets.get(name)
            if there is None:
                return False
            async with there.held("is being loaded"):
                if self._reconciler.sets.get(name) is not there:
                    return False
                there.is_loaded = True
                for member in there.add_missing():
                    member.start(around.group)
            return True

        return await self._do(work, 0.0)

    async def unload(self, name: str, because: str) -> None:
        """No new requests for it; returns when its replicas have finished those that they hold, within
        `drain_max_s`, and have ended, those that left already when this began, too: who waits for this wants their
        memory. Those that were drained by hand stay so.

        One that is scaled begins with its least number when it is loaded again."""

        async def work(around: Surroundings) -> None:
            there = self._reconciler.sets.get(name)
            if there is None:
                return
            async with there.held("is being unloaded"):
                there.is_loaded = False
                await there.retire(_with_memory(there), around.leaving, because)
                there.start_ids_anew()
                self._scales.fall_asleep(name)
                if self._scales.scaling(name) is not None:
                    there.change(with_replicas(there.plan, self._scales.number(name)), there.threads)

        await self._do(work, 0.0)


def _with_memory(there: ReplicaSet) -> list[Member]:
    """All but those that were drained by hand."""
    return [member for member in there.members.values() if not member.is_parked]


def _running(there: ReplicaSet) -> list[Member]:
    """All but those that were drained by hand, or are on their way out."""
    return [member for member in there.staying() if not member.is_parked]
