"""Policies that go by a cost: who is slow, full or busy gets less, and stale news counts for less and less."""

from __future__ import annotations

import gc
import random
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferry.core.replica import ReplicaLoad, ReplicaState
from inferry.core.routing_settings import Measure
from inferry.policy.routing import Balancer, NoReplica, PolicyName, RouteFacts, Routing, Seen, Slot
from inferry.policy.routing.balancer import AGE_S
from inferry.policy.routing.sampled import LOOKS_MAX

S = ReplicaState


def balancer(routing: Routing | PolicyName, replicas: int = 3, *, shared: bool = False) -> Balancer:
    made = Balancer(routing, random.Random(7), shared=shared)
    for number in range(replicas):
        made.put(f"r{number}", S.READY)
    return made


def choose(made: Balancer, now_s: float = 0.0, facts: RouteFacts | None = None) -> Slot:
    slot = made.choose((), facts or RouteFacts(), now_s)
    assert isinstance(slot, Slot)
    return slot


def serve(
    made: Balancer, now_s: float, ttft_s: float, duration_s: float, facts: RouteFacts | None = None
) -> str:
    """One request that begins at `now_s` and has the replica to itself."""
    facts = facts or RouteFacts()
    slot = choose(made, now_s, facts)
    made.first_byte(slot, facts, ttft_s, now_s + ttft_s)
    seen = Seen(True, False, ttft_s, duration_s, facts.prompt_tokens, None, facts.answer_tokens)
    made.release(slot, facts, seen, now_s + duration_s)
    return slot.id


# --- many replicas ------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["power_of_two", "peak_ewma", "gpu_aware", "token_load"])
def test_very_many_replicas_are_loaded_evenly(policy: PolicyName) -> None:
    """Of 200 replicas with 2,000 requests, none holds more than 14, though few are looked at for each."""
    made = balancer(policy, 200)
    facts = RouteFacts(prompt_tokens=100, answer_tokens=100)
    for _ in range(2000):
        choose(made, 0.0, facts)
    assert max(slot.in_flight for slot in made.slots.values()) <= 14
    assert LOOKS_MAX < 200


@pytest.mark.parametrize("policy", ["power_of_two", "peak_ewma", "gpu_aware", "token_load"])
def test_a_generator_is_asked_for_where_one_is_needed(policy: PolicyName) -> None:
    """A policy that draws says so, instead of always drawing the same."""
    made = Balancer(policy)
    for number in range(LOOKS_MAX + 1):
        made.put(f"r{number}", S.READY)
    with pytest.raises(AssertionError, match="give the balancer a seeded generator"):
        made.choose()


def test_power_of_two_takes_the_less_loaded_of_two() -> None:
    """The fullest of three is never chosen: whoever is drawn beside it has less."""
    made = balancer("power_of_two")
    made.slots["r1"].in_flight = 50
    assert "r1" not in {choose(made).id for _ in range(40)}
    made.put("r0", S.FAILED)
    assert choose(made).id == "r2"
    assert isinstance(made.choose({"r1", "r2"}), NoReplica)


def test_power_of_two_goes_by_weight() -> None:
    """One of weight 4 comes to hold about four times as much."""
    made = balancer("power_of_two", 2)
    made.put("r0", S.READY, 4.0)
    held = Counter(choose(made).id for _ in range(100))
    assert held == {"r0": 80, "r1": 20}


# --- peak_ewma ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", get_args(Measure))
def test_a_replica_that_turns_slow_loses_its_requests_at_once(measure: Measure) -> None:
    """One slow answer is enough; the others share what comes then."""
    made = balancer(Routing(policy="peak_ewma", measure=measure))
    for round_ in range(6):
        serve(made, float(round_), 0.1, 1.0)
    slow = serve(made, 10.0, 5.0, 20.0)
    after = Counter(serve(made, 31.0 + step * 0.01, 0.1, 1.0) for step in range(20))
    assert slow not in after
    assert len(after) == 2


def test_a_slow_replica_comes_back_by_and_by() -> None:
    """What was measured fades while nothing is asked of it, so that it is tried again."""
    made = balancer(Routing(policy="peak_ewma", decay_s=10))
    for round_ in range(6):
        serve(made, float(round_), 0.1, 1.0)
    slow = serve(made, 10.0, 5.0, 5.0)
    assert slow in {serve(made, 15.0 + second, 0.1, 0.2) for second in range(120)}


def test_a_replica_that_hangs_does_not_look_better_by_the_second() -> None:
    """A request without an answer keeps its replica's place: nothing fades until it has one."""
    made = balancer(Routing(policy="peak_ewma", decay_s=1))
    for round_ in range(6):
        serve(made, float(round_), 0.1, 1.0)
    hung = choose(made, 10.0)
    after = Counter(serve(made, 20.0 + second, 0.1, 0.2) for second in range(60))
    assert hung.id not in after


def test_quick_errors_draw_no_requests() -> None:
    """A replica that fails fast is not taken for a fast one."""
    made = balancer(Routing(policy="peak_ewma", measure="latency"), 2)
    for round_ in range(4):
        serve(made, float(round_), 0.1, 1.0)
    for step in range(10):
        slot = choose(made, 5.0 + step)
        made.release(slot, RouteFacts(), Seen(answer_began=False, failed=True), 5.001 + step)
    assert Counter(choose(made, 20.0).id for _ in range(10)) == {"r0": 5, "r1": 5}


# --- token_load ---------------------------------------------------------------------------------------


def test_tokens_count_and_not_requests() -> None:
    """Beside one prompt of 8,000 tokens, eight of 1,000 find room at the other replica."""
    made = balancer("token_load", 2)
    big = choose(made, 0.0, RouteFacts(prompt_tokens=8000, answer_tokens=1))
    small = Counter(choose(made, 0.0, RouteFacts(prompt_tokens=1000, answer_tokens=1)).id for _ in range(7))
    assert big.id not in small


def test_a_faster_replica_gets_more() -> None:
    """After both have been measured, the one that is three times as fast holds about three times as much."""
    made = balancer("token_load", 2)
    facts = RouteFacts(prompt_tokens=1000, answer_tokens=100)
    for round_ in range(20):
        slot = choose(made, float(round_), facts)
        ttft_s = 0.1 if slot.id == "r0" else 0.3
        made.first_byte(slot, facts, ttft_s, round_ + ttft_s)
        made.release(slot, facts, Seen(True, False, ttft_s, 11 * ttft_s, 1000, None, 100), round_ + 4.0)
    held = Counter(choose(made, 99.0, facts).id for _ in range(80))
    assert 50 <= held["r0"] <= 70


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9000), st.booleans()), max_size=120))
def test_reserved_tokens_never_drift(steps: list[tuple[int, int, bool]]) -> None:
    """When every request is over, whatever became of it, no tokens are left outstanding."""
    made = balancer("token_load", 3)
    held: list[tuple[Slot, RouteFacts]] = []
    for kind, tokens, began in steps:
        if kind == 0 and held:
            slot, facts = held.pop()
            if began:
                made.first_byte(slot, facts, 0.1, 1.0)
            made.release(slot, facts, Seen(answer_began=began), 2.0)
        else:
            facts = RouteFacts(prompt_tokens=tokens, answer_tokens=tokens // 2)
            held.append((choose(made, 0.0, facts), facts))
    for slot, facts in held:
        made.release(slot, facts)
    slot = choose(made)
    assert "0 prompt and 0 answer tokens outstanding" in made.explain(slot)


@pytest.mark.parametrize("policy", get_args(PolicyName))
def test_nothing_is_kept_of_a_replica_that_is_gone(policy: PolicyName) -> None:
    """Its requests may end after it: what they tell then is forgotten with it."""
    made = balancer(policy, 2)
    facts = RouteFacts(prompt_tokens=10, answer_tokens=10, blocks=(1, 2), session="s")
    slots = [choose(made, 0.0, facts) for _ in range(8)]
    gone = made.slots["r0"]
    made.drop("r0")
    for slot in slots:
        made.first_byte(slot, facts, 0.1, 1.0)
        made.release(slot, facts, Seen(True, False, 0.1, 1.0, 10, 5, 10), 2.0)
    assert choose(made, 3.0, facts).id == "r1"
    assert gone not in gc.get_referents(
        *gc.get_referents(made._policy), *gc.get_referents(vars(made._policy))
    )


# --- gpu_aware ----------------------------------------------------------------------------------------


def reading(replica_id: str, read_s: float, **told: float) -> ReplicaLoad:
    return ReplicaLoad(replica_id, read_s, **told)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "told",
    [
        {"kv_cache_use": 0.9},
        {"running": 0, "waiting": 3},
        {"running": 8, "waiting": 0},
        {"gpu_use": 1.0},
        {"gpu_memory_use": 0.97},
    ],
)
def test_whoever_is_full_or_busy_gets_less(told: dict[str, float]) -> None:
    """Cache, queue, computing and memory each count; without news all are alike."""
    made = balancer(Routing(policy="gpu_aware"), 2)
    made.learn(reading("r0", 0.0, **told), 0.0)
    held = Counter(choose(made, 0.1).id for _ in range(12))
    assert held["r0"] < held["r1"]


def test_a_cache_that_is_told_counts_and_not_the_memory_that_it_took() -> None:
    """Engines take nearly all GPU memory at the start; that says nothing about room."""
    made = balancer("gpu_aware", 2)
    made.learn(reading("r0", 0.0, kv_cache_use=0.1, gpu_memory_use=0.95), 0.0)
    made.learn(reading("r1", 0.0, kv_cache_use=0.5, gpu_memory_use=0.2), 0.0)
    assert choose(made, 0.1).id == "r0"


def test_stale_news_counts_less_and_less_and_never_blocks() -> None:
    """The share of a replica that once was full grows with the age of that reading, to its even share at last."""
    shares = []
    for age_s in (0.0, 5.0, 15.0, 60.0):
        made = balancer(Routing(policy="gpu_aware", half_life_s=5), 2)
        made.learn(reading("r0", 0.0, kv_cache_use=0.95, running=0, waiting=10), 0.0)
        shares.append(Counter(choose(made, age_s).id for _ in range(60))["r0"])
    assert shares == sorted(shares)
    assert shares[0] < 5
    assert shares[-1] == 30
    alone = balancer("gpu_aware", 1)
    alone.learn(reading("r0", 0.0, kv_cache_use=1.0, waiting=1000, gpu_use=1.0), 0.0)
    assert choose(alone, 0.0).id == "r0"


def test_its_own_requests_are_not_counted_twice() -> None:
    """What the engine runs for this gateway is known here already."""
    made = balancer("gpu_aware", 2)
    for _ in range(8):
        choose(made, 0.0)
    for replica_id in ("r0", "r1"):
        made.learn(reading(replica_id, 1.0, running=4, waiting=0), 1.0)
    assert Counter(choose(made, 1.0).id for _ in range(6)) == {"r0": 3, "r1": 3}


# --- requests from elsewhere --------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["least_connections", "power_of_two", "peak_ewma", "token_load"])
def test_requests_of_others_count_where_replicas_are_shared(policy: PolicyName) -> None:
    """A replica that runs six requests of another gateway process gets six fewer from this one."""
    made = balancer(policy, 2, shared=True)
    made.learn(reading("r0", 0.0, running=5, waiting=1), 0.0)
    facts = RouteFacts(prompt_tokens=100, answer_tokens=100)
    held = Counter(choose(made, 0.0, facts).id for _ in range(10))
    assert held == {"r0": 2, "r1": 8}


def test_requests_of_others_are_forgotten_with_time() -> None:
    """When the engine tells nothing any more, all that was told has no weight in the end."""
    made = balancer("least_connections", 2, shared=True)
    made.learn(reading("r0", 0.0, running=4, waiting=0), 0.0)
    assert choose(made, 0.0).id == "r1"
    now_s = 0.0
    while made.slots["r0"].others:
        now_s += AGE_S
        made.release(choose(made, now_s))
    assert 10 < now_s < 60
    assert made.slots["r0"].others == 0.0


def test_an_unshared_replica_is_counted_exactly() -> None:
    """Where nobody else sends requests, a reading that lags behind changes nothing."""
    made = balancer("least_connections", 2)
    made.learn(reading("r0", 0.0, running=40, waiting=2), 0.0)
    made.learn(reading("gone", 0.0, running=40, waiting=2), 0.0)
    assert Counter(choose(made).id for _ in range(10)) == {"r0": 5, "r1": 5}


# --- words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", get_args(PolicyName))
def test_every_choice_can_be_explained(policy: PolicyName) -> None:
    """One line of ASCII that names the replica and the policy, however many replicas there are."""
    made = balancer(policy, 40)
    facts = RouteFacts(prompt_tokens=10, answer_tokens=10, blocks=(1, 2), session="s\r\nx: y\u00e9")
    made.learn(reading("r0", 0.0, running=1, waiting=0, kv_cache_use=0.5), 0.0)
    slot = choose(made, 0.0, facts)
    words = made.explain(slot)
    assert words.startswith(f"{slot.id} by {policy}: ")
    assert words.isascii()
    assert words.isprintable()
    assert "requests before: r0=0, " in words
    assert words.endswith("and 30 more")
    assert len(words) < 400


def test_a_changed_policy_starts_anew_and_an_unchanged_one_goes_on() -> None:
    """A file that says the same leaves what was learned; requests stay counted in any case."""
    made = balancer(Routing(policy="peak_ewma"), 2)
    slow, fast = serve(made, 0.0, 9.0, 10.0), serve(made, 10.0, 0.1, 10.0)
    made.set_policy(Routing(policy="peak_ewma"))
    held = choose(made, 20.0)
    assert {held.id, choose(made, 20.0).id} == {fast}
    made.set_policy(Routing(policy="token_load"))
    assert made.slots[fast].in_flight == 2
    made.release(held, RouteFacts(prompt_tokens=5, answer_tokens=5))
    assert choose(made, 21.0).id == slow
