"""Shares behind a public name: exact over any stretch, and sticky where asked."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from inferry.policy.split import Shares, choose_sticky


def handed_out(weights: dict[str, int], count: int) -> list[str]:
    shares = Shares(weights)
    return [shares.next() for _ in range(count)]


@pytest.mark.parametrize("weights", [{"a": 90, "b": 10}, {"a": 9, "b": 1}])
def test_ninety_to_ten_is_one_of_any_ten_in_a_row(weights: dict[str, int]) -> None:
    """Wherever one begins to count: a canary never gets two requests in one ten."""
    names = handed_out(weights, 1000)
    assert {names[at : at + 10].count("b") for at in range(991)} == {1}


@pytest.mark.parametrize("seed", range(200))
def test_no_name_is_ever_a_whole_request_from_its_share(seed: int) -> None:
    """Tijdeman's bound, for whatever weights, at every moment; and any two moments are closer than two requests."""
    rng = random.Random(seed)
    weights = {str(at): rng.choice([0, 1, 1, 2, 3, 10, 97, 999]) for at in range(rng.randint(1, 8))}
    weights["last"] = rng.randint(1, 50)
    takers = sum(1 for weight in weights.values() if weight)
    bound = 1 - 1 / (2 * takers - 2) if takers > 1 else 0.0
    total = sum(weights.values())
    counts: Counter[str] = Counter()
    for number, name in enumerate(handed_out(weights, 500), 1):
        counts[name] += 1
        off = max(abs(counts[each] - number * weight / total) for each, weight in weights.items())
        assert off <= bound + 1e-9, (weights, number)


def test_shares_repeat_with_the_sum_of_the_weights() -> None:
    """After as many requests as the weights add up to, each has had exactly its weight, again and again."""
    weights = {"a": 5, "b": 3, "c": 1, "none": 0}
    names = handed_out(weights, 90)
    assert [Counter(names[at : at + 9]) for at in range(0, 90, 9)] == [Counter(a=5, b=3, c=1)] * 10
    assert names[:9] * 10 == names


def test_one_name_takes_all() -> None:
    """A split of one is a name with fallbacks or a shadow, and no special case."""
    assert handed_out({"a": 7}, 3) == ["a", "a", "a"]


def test_the_same_caller_gets_the_same_name() -> None:
    """Whatever came between, and in whichever process: the choice depends on nothing else."""
    weights = {"a": 1, "b": 1}
    assert [choose_sticky(weights, "chat", "anna") for _ in range(5)] == ["b"] * 5
    assert choose_sticky({"b": 1, "a": 1}, "chat", "anna") == "b"


def test_callers_are_spread_by_weight() -> None:
    """Of 20,000 callers, ten percent within three standard deviations (3 * sqrt(20000 * 0.1 * 0.9) = 127)."""
    chosen = Counter(choose_sticky({"a": 9, "b": 1}, "chat", f"user-{at}") for at in range(20_000))
    assert abs(chosen["b"] - 2000) <= 127


def test_a_weight_of_zero_gets_nobody() -> None:
    """A deployment may wait in the file for its first caller."""
    assert {choose_sticky({"a": 1, "b": 0}, "chat", str(at)) for at in range(200)} == {"a"}


def test_a_canary_that_grows_takes_callers_and_gives_none_back() -> None:
    """Step by step from 1 to 50 percent, nobody who has moved to the canary moves again, and none between others."""
    steps = [{"a": 60, "b": 40, "canary": weight} for weight in (1, 5, 10, 25, 100)]
    for before, after in pairwise(steps):
        for at in range(2000):
            old = choose_sticky(before, "chat", str(at))
            assert choose_sticky(after, "chat", str(at)) in (old, "canary")


def test_two_names_spread_the_same_callers_apart() -> None:
    """Else the callers of one experiment would be those of the next."""
    both = Counter(
        (choose_sticky({"a": 1, "b": 1}, "chat", str(at)), choose_sticky({"a": 1, "b": 1}, "code", str(at)))
        for at in range(4000)
    )
    assert min(both.values()) > 900


def test_odd_callers_are_callers() -> None:
    """Half a surrogate pair, as JSON may hold it, and an empty text have their place, too."""
    assert choose_sticky({"a": 1, "b": 1}, "chat", "\ud800") in ("a", "b")
    assert choose_sticky({"a": 1, "b": 1}, "chat", "") in ("a", "b")
