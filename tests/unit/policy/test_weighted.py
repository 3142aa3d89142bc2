"""Smooth weighted round robin: exact shares over any stretch, whatever the weights and whoever comes and goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from hypothesis import given, settings
from hypothesis import strategies as st

from inferry.core.replica import ReplicaState
from inferry.policy.routing import Balancer, Slot

S = ReplicaState
WEIGHTS = st.lists(st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 7.0, 20.0]), min_size=1, max_size=12)


def balancer(weights: list[float]) -> Balancer:
    made = Balancer("weighted")
    for number, weight in enumerate(weights):
        made.put(f"r{number}", S.READY, weight)
    return made


def turns(made: Balancer) -> Iterator[str]:
    while True:
        slot = made.choose()
        assert isinstance(slot, Slot)
        made.release(slot)
        yield slot.id


def test_the_sequence_is_smooth() -> None:
    """The one of weight 5 is not served five times in a row; the next round is the same."""
    made = balancer([5, 1, 1])
    names = {"r0": "a", "r1": "b", "r2": "c"}
    assert "".join(names[each] for each in islice(turns(made), 14)) == "abaacaa" * 2


@settings(max_examples=60)
@given(WEIGHTS, st.integers(1, 400))
def test_nobody_is_a_request_ahead_or_behind(weights: list[float], requests: int) -> None:
    """After any number of requests, each replica has had its weight's share, to less than one request."""
    made = balancer(weights)
    served: Counter[str] = Counter()
    for done, replica_id in enumerate(islice(turns(made), requests), start=1):
        served[replica_id] += 1
        for number, weight in enumerate(weights):
            assert abs(served[f"r{number}"] - done * weight / sum(weights)) < 1 + 1e-6


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=60))
def test_coming_and_going_gives_nobody_more(changes: list[tuple[int, bool]]) -> None:
    """Two replicas that stay get 3 to 1, to two requests, while two others flap; nobody starves."""
    made = balancer([3, 1, 1, 1])
    served: Counter[str] = Counter()
    sequence = turns(made)
    for number, well in changes:
        if number >= 2:
            made.put(f"r{number}", S.READY if well else S.FAILED)
        served.update(islice(sequence, 3))
        assert abs(served["r0"] - 3 * served["r1"]) <= 6


def test_an_excluded_replica_is_passed_over_and_not_charged() -> None:
    """A retry goes to somebody else, even where only the excluded one is due."""
    made = balancer([100, 1])
    first = made.choose(["r0"])
    assert isinstance(first, Slot)
    assert first.id == "r1"
    assert Counter(islice(turns(made), 100))["r0"] == 100


def test_shares_follow_a_changed_weight() -> None:
    """From then on, the new one counts."""
    made = balancer([1, 1])
    list(islice(turns(made), 10))
    made.put("r0", S.READY, 3)
    assert Counter(islice(turns(made), 400)) == {"r0": 300, "r1": 100}
    made.set_share(made.slots["r0"], 1 / 3)
    found = Counter(islice(turns(made), 400))
    assert abs(found["r0"] - 200) <= 2


def test_a_million_requests_later_shares_are_still_exact() -> None:
    """Virtual time starts again before its sums get inexact."""
    made = balancer([0.001, 0.002])
    found = Counter(islice(turns(made), 30_000))
    assert abs(found["r0"] - 10_000) <= 1
