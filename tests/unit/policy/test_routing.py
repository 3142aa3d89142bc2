"""Which replica gets a request: fairness, load, last resorts, and counts that never drift."""

from __future__ import annotations

import random
from collections import Counter
from typing import get_args

import pytest

from inferry.core.replica import ReplicaState
from inferry.policy.routing import Balancer, NoReplica, PolicyName, Slot

S = ReplicaState
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
TURNS = [policy for policy in POLICIES if policy not in ("power_of_two", "prefix_aware")]
"""Equals take turns: those that draw nothing as long as replicas are few, and don't go by prompts."""


def balancer(policy: PolicyName, *replica_ids: str) -> Balancer:
    made = Balancer(policy, random.Random(1))
    for replica_id in replica_ids:
        made.put(replica_id, S.READY)
    return made


def choose(from_: Balancer, exclude: set[str] | None = None) -> Slot:
    choice = from_.choose(exclude or ())
    assert isinstance(choice, Slot)
    return choice


def shares(from_: Balancer, requests: int) -> Counter[str]:
    """How many of `requests`, one after the other, each replica gets."""
    found: Counter[str] = Counter()
    for _ in range(requests):
        slot = choose(from_)
        found[slot.id] += 1
        from_.release(slot)
    return found


# --- fairness -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", TURNS)
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_turns_are_equal(policy: PolicyName, count: int) -> None:
    """One request at a time, everyone gets the same number, and nobody is passed over in a round."""
    replicas = [f"r{n}" for n in range(count)]
    made = balancer(policy, *replicas)
    for _ in range(5):
        assert shares(made, count) == dict.fromkeys(replicas, 1)


@pytest.mark.parametrize("policy", TURNS)
def test_shares_stay_equal_when_the_set_changes(policy: PolicyName) -> None:
    """Whoever comes or goes, those that are there share what comes from then on."""
    made = balancer(policy, "a", "b", "c")
    assert shares(made, 300) == {"a": 100, "b": 100, "c": 100}
    made.put("b", S.FAILED)
    assert shares(made, 100) == {"a": 50, "c": 50}
    made.put("d", S.READY)
    assert shares(made, 300) == {"a": 100, "c": 100, "d": 100}
    made.drop("a")
    made.put("b", S.READY)
    assert shares(made, 300) == {"b": 100, "c": 100, "d": 100}


@pytest.mark.parametrize("policy", TURNS)
def test_a_failing_replica_does_not_skew_the_others(policy: PolicyName) -> None:
    """When one of three fails every request, the two others take equal parts of its retries."""
    made = balancer(policy, "a", "b", "c")
    served: Counter[str] = Counter()
    for _ in range(600):
        slot = choose(made)
        made.release(slot)
        if slot.id == "a":
            slot = choose(made, {"a"})
            made.release(slot)
        served[slot.id] += 1
    assert served == {"b": 300, "c": 300}


@pytest.mark.parametrize("seed", range(10))
def test_round_robin_is_fair_while_others_flap(seed: int) -> None:
    """Two replicas that stay ready never differ by more than one turn per change of the set."""
    rng = random.Random(seed)
    made = balancer("round_robin", "a", "b", "flap1", "flap2")
    served: Counter[str] = Counter()
    changes = 0
    for _ in range(2000):
        if rng.random() < 0.1:
            changes += 1
            made.put(rng.choice(["flap1", "flap2"]), rng.choice([S.READY, S.FAILED, S.SUSPECT]))
        served[choose(made).id] += 1
        assert abs(served["a"] - served["b"]) <= 1, f"seed {seed}, after {changes} changes"


# --- load ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_least_connections_takes_the_least_loaded(seed: int) -> None:
    """Whatever is under way, the choice has the smallest number of requests per weight after it."""
    rng = random.Random(seed)
    made = Balancer("least_connections")
    for n in range(rng.randint(1, 6)):
        made.put(f"r{n}", S.READY, rng.choice([0.5, 1.0, 2.0, 3.0]))
    held: list[Slot] = []
    for _ in range(300):
        if held and rng.random() < 0.45:
            made.release(held.pop(rng.randrange(len(held))))
            continue
        loads = {slot.id: (slot.in_flight + 1) / slot.weight for slot in made.slots.values()}
        slot = choose(made)
        assert loads[slot.id] == min(loads.values()), f"seed {seed}"
        held.append(slot)


def test_weights_set_the_shares() -> None:
    """Under load, a replica of weight three holds three times what one of weight one holds."""
    made = Balancer("least_connections")
    made.put("big", S.READY, 3.0)
    made.put("small", S.READY, 1.0)
    assert Counter(choose(made).id for _ in range(40)) == {"big": 30, "small": 10}


def test_least_connections_avoids_a_slow_replica() -> None:
    """A replica that holds on to its request gets no second one while others are free."""
    made = balancer("least_connections", "a", "b", "c")
    slow = choose(made)
    assert slow.id not in shares(made, 100)


def test_round_robin_does_not_look_at_load() -> None:
    """Round robin keeps turning, whoever is busy."""
    made = balancer("round_robin", "a", "b")
    assert Counter(choose(made).id for _ in range(10)) == {"a": 5, "b": 5}


# --- who may be chosen --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("state", sorted(set(S) - {S.READY, S.SUSPECT}))
def test_only_ready_and_suspect_take_requests(policy: PolicyName, state: ReplicaState) -> None:
    """In any other state a replica is never chosen, not even as the only one."""
    made = balancer(policy, "a")
    made.put("a", state)
    assert made.choose() == NoReplica(f"1 {state.value}")
    assert made.usable() == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_suspect_is_the_last_resort(policy: PolicyName) -> None:
    """A suspect replica is chosen only when no ready one is left, and then rather than nobody."""
    made = balancer(policy, "a", "b")
    made.put("sus", S.SUSPECT)
    assert {choose(made).id for _ in range(50)} == {"a", "b"}
    assert choose(made, {"a", "b"}).id == "sus"
    made.put("a", S.FAILED)
    made.put("b", S.DRAINING)
    assert choose(made).id == "sus"
    made.put("b", S.READY)
    assert choose(made).id == "b"


@pytest.mark.parametrize("policy", POLICIES)
def test_excluded_are_never_chosen(policy: PolicyName) -> None:
    """`exclude` holds for ready and suspect ones alike, and `usable` counts what is left."""
    made = balancer(policy, "a", "b", "c")
    made.put("c", S.SUSPECT)
    assert made.usable() == 3
    assert made.usable({"a"}) == 2
    assert {choose(made, {"a"}).id for _ in range(9)} == {"b"}
    assert {choose(made, {"a", "b"}).id for _ in range(9)} == {"c"}
    assert made.choose({"a", "b", "c"}) == NoReplica("every replica that takes requests was tried")
    assert made.usable({"a", "b", "c"}) == 0


def test_reasons_name_what_there_is() -> None:
    """An operator reads from the reason what the replicas are doing."""
    made = Balancer("round_robin")
    assert made.choose() == NoReplica("it has no replicas")
    for n, state in enumerate([S.STARTING, S.FAILED, S.STARTING, S.WARMING]):
        made.put(f"r{n}", state)
    assert made.choose() == NoReplica("1 failed, 2 starting, 1 warming")
    assert made.choose({"r9"}) == NoReplica("1 failed, 2 starting, 1 warming")


# --- counts -------------------------------------------------------------------------------------------


def test_choosing_reserves_and_releasing_gives_back() -> None:
    """`in_flight` is what is held now, `served` what was ever given."""
    made = balancer("round_robin", "a")
    first, second = choose(made), choose(made)
    assert first is second
    assert (first.in_flight, first.served) == (2, 2)
    made.release(first)
    assert (first.in_flight, first.served) == (1, 2)
    made.release(first)
    with pytest.raises(AssertionError, match="a: released more often than chosen"):
        made.release(first)


def test_state_changes_keep_what_is_held() -> None:
    """A replica that drains or returns still counts the requests that it holds."""
    made = balancer("round_robin", "a")
    slot = choose(made)
    made.put("a", S.DRAINING, 2.0)
    assert (made.slots["a"].in_flight, made.slots["a"].weight) == (1, 2.0)
    made.release(slot)
    assert made.slots["a"].in_flight == 0


def test_a_dropped_replica_can_still_be_released() -> None:
    """A request may outlive its replica's slot; a new replica of that name starts at zero."""
    made = balancer("round_robin", "a")
    slot = choose(made)
    made.drop("a")
    made.drop("never there")
    assert made.put("a", S.READY).in_flight == 0
    made.release(slot)
    assert made.slots["a"].in_flight == 0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(15))
def test_counts_never_drift(policy: PolicyName, seed: int) -> None:
    """Under any order of arrivals, ends, state changes and drops, the counts are exactly what is held."""
    rng = random.Random(seed)
    made = Balancer(policy, rng)
    held: list[Slot] = []
    for _ in range(1500):
        replica_id = f"r{rng.randrange(5)}"
        match rng.randrange(10):
            case 0:
                made.put(replica_id, rng.choice(list(S)), rng.choice([1.0, 2.0]))
            case 1 if rng.random() < 0.3:
                made.drop(replica_id)
            case 2 | 3 | 4 if held:
                made.release(held.pop(rng.randrange(len(held))))
            case _:
                exclude = {f"r{n}" for n in range(5) if rng.random() < 0.2}
                usable = made.usable(exclude)
                choice = made.choose(exclude)
                if isinstance(choice, NoReplica):
                    assert usable == 0, f"seed {seed}"
                    assert choice.because
                else:
                    assert usable > 0
                    assert choice.id not in exclude
                    assert choice.state in (S.READY, S.SUSPECT)
                    held.append(choice)
        known = set(made.slots.values())
        assert all(slot.in_flight >= 0 for slot in known)
        assert sum(slot.in_flight for slot in known) == sum(slot in known for slot in held), f"seed {seed}"
