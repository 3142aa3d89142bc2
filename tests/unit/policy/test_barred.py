"""Replicas that are set aside: who gets requests then, and how one comes back by a single trial."""

from __future__ import annotations

import pytest

from inferry.core.replica import ReplicaState
from inferry.policy.routing import Balancer, NoReplica, PolicyName, Slot

READY = ReplicaState.READY


def balancer_of(*ids: str, policy: PolicyName = "least_connections") -> tuple[Balancer, list[Slot]]:
    balancer = Balancer(policy)
    return balancer, [balancer.put(each, READY) for each in ids]


def chosen(balancer: Balancer, count: int) -> list[str]:
    """Who gets the next requests, each ended at once."""
    names = []
    for _ in range(count):
        slot = balancer.choose()
        assert isinstance(slot, Slot)
        names.append(slot.id)
        balancer.release(slot)
    return names


@pytest.mark.parametrize("policy", ["least_connections", "round_robin"])
def test_a_barred_replica_gets_nothing_while_others_are_well(policy: PolicyName) -> None:
    """And takes its part again once it is let in."""
    balancer, (first, _) = balancer_of("a", "b", policy=policy)
    balancer.bar(first)
    assert set(chosen(balancer, 6)) == {"b"}
    balancer.let_in(first)
    assert set(chosen(balancer, 6)) == {"a", "b"}


def test_a_trial_is_one_request() -> None:
    """It gets exactly one, however many come, until somebody says more."""
    balancer, (first, _) = balancer_of("a", "b")
    balancer.bar(first, trial=True)
    assert chosen(balancer, 8).count("a") == 1
    assert first.barred


def test_barred_ones_are_asked_before_suspect_ones_and_before_nobody() -> None:
    """One that fails now and then is better than one that shows no life, and both are better than none."""
    balancer, (first, second) = balancer_of("a", "b")
    balancer.bar(first)
    balancer.put("b", ReplicaState.SUSPECT)
    assert chosen(balancer, 3) == ["a", "a", "a"]
    slot = balancer.choose(exclude=["a"])
    assert slot is second
    assert isinstance(balancer.choose(exclude=["a", "b"]), NoReplica)
    assert balancer.usable() == 2
    assert balancer.usable(exclude=["a"]) == 1


def test_its_state_is_not_lost_with_a_change_of_weight_or_policy() -> None:
    """What the fleet publishes meanwhile does not let it in."""
    balancer, (first, _) = balancer_of("a", "b")
    balancer.bar(first)
    balancer.put("a", READY, 2.0)
    balancer.set_policy("round_robin")
    assert set(chosen(balancer, 6)) == {"b"}
