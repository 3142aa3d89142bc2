"""Which GPUs of a deployment each replica gets, through scaling and replacement."""

from __future__ import annotations

import itertools
import random

from inferry.core.server_engines import VllmDeployment
from inferry.engines.vllm import VllmAdapter
from inferry.fleet.keeper_maker import KeeperMaker
from inferry.fleet.plan import DeploymentPlan
from inferry.fleet.replica_set import ReplicaSet
from inferry.testing.manual_clock import ManualClock

from .fakes import FakeProber, FakeRuntime


def replicas(count: int, gpus: list[int]) -> ReplicaSet:
    deployment = VllmDeployment.model_validate(
        {"engine": "vllm", "model": "hf:o/m", "replicas": count, "gpus": gpus}
    )
    clock = ManualClock()
    maker = KeeperMaker(FakeRuntime(), FakeProber(), clock, random.Random(1), lambda view: None, {})
    plan = DeploymentPlan("chat", deployment, VllmAdapter("chat", deployment), None)
    return ReplicaSet(plan, 1, maker, itertools.count())


def seats(of: ReplicaSet) -> dict[str, int]:
    return {member.id: member.gpu_seat for member in of.members.values()}


def test_what_one_leaves_the_next_takes() -> None:
    """Each has its own; a place that became free is taken by the next one."""
    mine = replicas(3, [0, 1, 2])
    mine.add_missing()
    assert seats(mine) == {"chat-0": 0, "chat-1": 1, "chat-2": 2}
    del mine.members["chat-1"]
    mine.add_missing()
    assert seats(mine) == {"chat-0": 0, "chat-2": 2, "chat-3": 1}


def test_one_more_than_there_is_room_for_shares_with_the_oldest() -> None:
    """A rollout that adds before it takes away ends with as many GPUs in use as before."""
    mine = replicas(2, [0, 1])
    mine.add_missing()
    for old in ("chat-0", "chat-1"):
        mine.add_one()
        del mine.members[old]
    assert seats(mine) == {"chat-2": 0, "chat-3": 1}
