"""prefix_aware: to the cache, unless the crowd costs more; corrected by what engines say; counts that never drift."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferry.core.replica import ReplicaLoad, ReplicaState
from inferry.core.routing_settings import Routing
from inferry.policy.routing import Balancer, NoReplica, RouteFacts, Seen, Slot
from inferry.policy.routing.prefix_aware import LOOKED_AT_MAX, REQUEST_TOKENS

READY = ReplicaState.READY
ANSWERED = Seen(answer_began=True)


def fleet(replicas: int, cache_tokens: int = 3_000_000) -> Balancer:
    made = Balancer(Routing(policy="prefix_aware", cache_tokens=cache_tokens))
    for number in range(replicas):
        made.put(f"r{number}", READY)
    return made


def prompt(*blocks: int, tokens: int = 0) -> RouteFacts:
    return RouteFacts(tokens or 100 * len(blocks), 10, blocks)


def choose(from_: Balancer, facts: RouteFacts, exclude: set[str] | None = None, now_s: float = 0.0) -> Slot:
    choice = from_.choose(exclude or (), facts, now_s)
    assert isinstance(choice, Slot)
    return choice


def serve(from_: Balancer, facts: RouteFacts, seen: Seen = ANSWERED) -> Slot:
    """One request, from choice to end, before the next."""
    slot = choose(from_, facts)
    from_.first_byte(slot, facts, 0.1, 0.0)
    from_.release(slot, facts, seen)
    return slot


LONG = tuple(range(100))


def test_a_prompt_goes_where_its_beginning_is_cached() -> None:
    """Each conversation comes back to the replica that had it, and new ones go around."""
    some = fleet(4)
    homes = {base: serve(some, prompt(*range(base, base + 10))).id for base in (0, 1000, 2000, 3000)}
    assert sorted(homes.values()) == ["r0", "r1", "r2", "r3"]
    for base, home in homes.items():
        assert serve(some, prompt(*range(base, base + 12))).id == home


def test_the_longest_cached_beginning_wins() -> None:
    """Of two that know the prompt, the one that knows more of it."""
    some = fleet(3)
    short = serve(some, prompt(*LONG[:20]))
    facts = prompt(*LONG[:60])
    longer = choose(some, facts, exclude={short.id})
    some.release(longer, facts, ANSWERED)
    assert serve(some, prompt(*LONG)).id == longer.id


def stays(waiting_tokens: int, requests: int, others: int) -> bool:
    """Whether a prompt of 10,000 cached tokens still goes to its replica through that crowd, when so many others went
    there since."""
    some = fleet(2)
    facts = prompt(*LONG)
    home = serve(some, facts)
    away = set(some.slots) - {home.id}
    for number in range(others):
        other = prompt(1000 + number)
        some.release(choose(some, other, exclude=away), other, ANSWERED)
    for number in range(requests):
        crowd = RouteFacts(waiting_tokens if number == 0 else 0)
        assert choose(some, crowd, exclude=away) is home
        if number:
            some.first_byte(home, crowd, 0.1, 0.0)
    return choose(some, facts) is home


@pytest.mark.parametrize(("others", "factor"), [(0, 1.0), (2, 11.0), (149, 15.9)])
def test_a_crowd_costs_what_it_is_said_to_cost(others: int, factor: float) -> None:
    """The cached replica keeps a request up to exactly the load that outweighs its cache, and loses it there: early,
    where the crowd is made of requests that begin alike."""
    saved_tokens = int(10_000 * factor)
    one = int(REQUEST_TOKENS)
    assert stays(saved_tokens - one - 10, 1, others)
    assert not stays(saved_tokens - one + 10, 1, others)
    # Those whose prompts are computed slow the others down, too.
    assert stays(0, saved_tokens // one - 1, others)
    assert not stays(0, saved_tokens // one + 1, others)


def test_without_prompts_it_spreads_by_load() -> None:
    """Nothing known of the prompts: never more than one request apart."""
    some = fleet(5)
    for _ in range(23):
        choose(some, RouteFacts())
        loads = [slot.in_flight for slot in some.slots.values()]
        assert max(loads) - min(loads) <= 1


def test_new_prompts_go_where_least_was_computed_of_late() -> None:
    """One after the other, on idle replicas: the tokens to compute are shared out evenly."""
    some = fleet(4)
    rng = random.Random(3)
    computed: Counter[str] = Counter()
    for number in range(400):
        tokens = rng.randrange(100, 5000)
        computed[serve(some, RouteFacts(tokens, 10, (number,))).id] += tokens
    assert max(computed.values()) - min(computed.values()) < 5000


def test_what_was_computed_long_ago_counts_less() -> None:
    """After hours, a replica that has just come is not given all new prompts until it has caught up."""
    some = fleet(2)
    for number in range(1000):
        facts = RouteFacts(1000, 10, (number,))
        some.release(choose(some, facts, now_s=number), facts, ANSWERED)
    some.put("new", READY)
    later_s = 1000 + 50 * 600.0
    got: Counter[str] = Counter()
    for number in range(1000, 1300):
        facts = RouteFacts(1000, 10, (number,))
        slot = choose(some, facts, now_s=later_s)
        some.release(slot, facts, ANSWERED)
        got[slot.id] += 1
    assert max(got.values()) - min(got.values()) <= 1


def test_a_heavier_replica_takes_more() -> None:
    """Load counts per weight."""
    some = fleet(1)
    some.put("large", READY, 3.0)
    got = Counter(choose(some, RouteFacts(100)).id for _ in range(400))
    assert got["large"] == pytest.approx(300, abs=5)


def test_a_replica_that_was_tried_is_not_chosen_again() -> None:
    """Not even where the prompt is cached; and with all tried, there is none."""
    some = fleet(3)
    facts = prompt(*LONG)
    home = serve(some, facts)
    assert choose(some, facts, exclude={home.id}) is not home
    assert isinstance(some.choose(set(some.slots), facts), NoReplica)


def test_the_choice_says_why() -> None:
    """In tokens: what is cached, what must be computed, and what waits before it."""
    some = fleet(2)
    serve(some, RouteFacts(1000, 10, LONG))
    slot = choose(some, RouteFacts(1000, 10, LONG))
    assert f"{slot.id} by prefix_aware: 1000 prompt tokens cached, 0 to compute behind 0" in some.explain(
        slot
    )


# --- what engines say ---------------------------------------------------------------------------------


def test_a_cache_that_does_not_keep_its_word_counts_for_less() -> None:
    """Told that nothing was cached, again and again, it sends prompts by load and no more to a cache."""
    some = fleet(2)
    facts = prompt(*LONG)
    home = serve(some, facts)
    for _ in range(200):
        again = choose(some, facts, exclude=set(some.slots) - {home.id})
        some.release(again, facts, Seen(answer_began=True, cached_tokens=0))
    choose(some, RouteFacts(5_000), exclude=set(some.slots) - {home.id})
    assert choose(some, facts) is not home


def test_a_cache_that_keeps_its_word_is_trusted() -> None:
    """The same with all confirmed: the load is the same, and the cache outweighs it."""
    some = fleet(2)
    facts = prompt(*LONG)
    home = serve(some, facts)
    for _ in range(200):
        again = choose(some, facts, exclude=set(some.slots) - {home.id})
        some.release(again, facts, Seen(answer_began=True, cached_tokens=10_000))
    choose(some, RouteFacts(5_000), exclude=set(some.slots) - {home.id})
    assert choose(some, facts) is home


@pytest.mark.parametrize(("hits", "stays"), [(0, False), (2_000_000, True)])
def test_counters_are_believed_where_requests_tell_nothing(hits: int, stays: bool) -> None:
    """An engine that has only counters: hits that do not grow take its cache's weight away."""
    some = fleet(2)
    facts = prompt(*LONG)
    home = serve(some, facts)
    some.learn(ReplicaLoad(home.id, 0.0, prefix_query_tokens=0, prefix_hit_tokens=0), 0.0)
    for _ in range(200):
        again = choose(some, facts, exclude=set(some.slots) - {home.id})
        some.release(again, facts, ANSWERED)
    some.learn(ReplicaLoad(home.id, 1.0, prefix_query_tokens=2_000_000, prefix_hit_tokens=hits), 1.0)
    choose(some, RouteFacts(5_000), exclude=set(some.slots) - {home.id})
    assert (choose(some, facts) is home) is stays


def test_a_request_that_failed_left_nothing_in_the_cache() -> None:
    """The replica broke before it answered: its cache is not credited with the prompt."""
    some = fleet(2)
    facts = prompt(*LONG)
    broken = choose(some, facts)
    some.release(broken, facts, Seen(failed=True))
    assert choose(some, prompt(*LONG)) is not broken


def test_a_replica_that_was_started_anew_has_an_empty_cache() -> None:
    """It failed and came back: what it had seen before counts no more."""
    some = fleet(2)
    home = serve(some, prompt(*LONG))
    [other] = [slot for slot in some.slots.values() if slot is not home]
    serve(some, RouteFacts(500))
    for state in (ReplicaState.FAILED, ReplicaState.PENDING, READY):
        some.put(home.id, state)
    facts = prompt(*LONG)
    some.release(choose(some, facts, exclude={home.id}), facts, ANSWERED)
    assert serve(some, prompt(*LONG)) is other


def test_a_replica_under_suspicion_keeps_its_cache() -> None:
    """It was only out of the choice for a while."""
    some = fleet(2)
    home = serve(some, prompt(*LONG))
    for state in (ReplicaState.SUSPECT, READY):
        some.put(home.id, state)
    assert serve(some, prompt(*LONG)) is home


# --- many ---------------------------------------------------------------------------------------------


def test_among_a_thousand_the_one_with_the_prompt_is_found() -> None:
    """However many there are, those that have the prompt cached are looked at."""
    some = fleet(1000)
    homes = {base: serve(some, prompt(*range(base, base + 10))).id for base in range(0, 100_000, 1000)}
    assert [serve(some, prompt(*range(base, base + 10))).id for base in homes] == list(homes.values())


def test_more_than_are_looked_at_still_share_the_load() -> None:
    """A sample of many equals is compared: the loads stay within a few requests of each other."""
    count = 4 * LOOKED_AT_MAX
    some = fleet(count)
    for _ in range(20 * count):
        choose(some, prompt(1, tokens=500))
    loads = [slot.in_flight for slot in some.slots.values()]
    assert min(loads) >= 15
    assert max(loads) <= 25


# --- counts -------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data())
def test_nothing_is_left_over_when_all_requests_have_ended(data: st.DataObject) -> None:
    """However requests begin, answer, fail and end, interleaved, and replicas come and go: afterwards no tokens wait
    and no request is counted anywhere."""
    some = fleet(3)
    policy = some._policy
    under_way: list[tuple[Slot, RouteFacts]] = []
    for _ in range(data.draw(st.integers(1, 30))):
        match data.draw(st.sampled_from(("choose", "first", "end", "again", "leave"))):
            case "choose":
                start = data.draw(st.integers(0, 3))
                facts = prompt(*range(start, start + data.draw(st.integers(0, 5))), tokens=777)
                under_way.append((choose(some, facts), facts))
            case "again" if under_way:  # another try with the same facts
                facts = under_way[-1][1]
                under_way.append((choose(some, facts), facts))
            case "first" if under_way:
                some.first_byte(*under_way[0], 0.1, 0.0)
            case "end" if under_way:
                cached = data.draw(st.one_of(st.none(), st.integers(0, 777)))
                slot, facts = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
                some.release(slot, facts, Seen(failed=cached is None, cached_tokens=cached))
            case "leave":
                some.put("r0", data.draw(st.sampled_from((ReplicaState.FAILED, READY))))
    for slot, facts in under_way:
        some.release(slot, facts, ANSWERED)
    replicas = policy._replicas.values()  # type: ignore[attr-defined]
    assert [(each.waiting_tokens, each.slot.in_flight, each.sent) for each in replicas] == [(0, 0, {})] * 3
