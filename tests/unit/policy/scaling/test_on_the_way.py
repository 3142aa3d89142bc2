"""What replicas that are on the way answer already, and what they don't."""

from __future__ import annotations

from inferry.policy.scaling.autoscaler import FileAutoscaler
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic
from tests.unit.policy.scaling.looks import Looks, scaling_of


def test_what_a_full_queue_refuses_is_no_work_done() -> None:
    """100 requests a second at 2 replicas that serve 4 of them: the refused 96 do not count as carried, so that a queue
    that stays full gets more while the first ones start."""
    policy = FileAutoscaler(scaling_of({"metric": "queue_depth", "above": 50, "add": 2}, max=50))
    wanted = 2
    for number in range(12):
        ended = 1000 * (number + 1)
        traffic = Traffic(arrived=ended, ended=ended, failed=960 * (number + 1), waiting=400)
        readings = tuple(ReplicaReading(str(each), number * 10.0, waiting=0) for each in range(2))
        wanted = policy.decide(Observation(number * 10.0, wanted, readings, wanted - 2, traffic)).to
    assert wanted > 14


def test_too_little_of_something_is_answered_once_while_replicas_start() -> None:
    """`below` with `add`: with one on the way nothing more is added until it serves."""
    looks = Looks(scaling_of({"metric": "engine:free_blocks", "below": 100, "add": 1}), starts=True)
    looks.own = {"free_blocks": 50.0}
    assert [to for _, to in looks.changes(120)] == [3]
