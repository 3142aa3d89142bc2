"""The search for capacity, on queues whose capacity is known."""

from __future__ import annotations

import math

import pytest

from inferry.bench.capacity import Found, Goal, Result, Search, Trial, design_effect
from inferry.bench.edge_fit import Point, error_by_trials, fit_edge

from .queue_model import Queue, search

EVEN = Queue(servers=8, service_s=0.5, limit_s=0.8, even=True)
MANY = Queue(servers=32, service_s=2.0, limit_s=2.5)
FEW = Queue(servers=8, service_s=0.5, limit_s=0.8)


def test_even_arrivals_find_the_servers_own_limit() -> None:
    """8 servers that take 0.5 s each carry 16 requests per second: found within 5 %, and called sure."""
    found, trials = search(EVEN, Goal(share=0.99, duration_s=60), seed=1)
    assert found.sure
    assert found.rate == pytest.approx(16, rel=0.05)
    assert found.low <= found.rate <= (found.high or 0)
    assert trials <= 16


def test_a_sharp_limit_is_not_answered_below_what_always_held() -> None:
    """4 servers that take 0.2 s each, asked evenly in trials of 6 s, as the verb does: 20 per second, within 2 %."""
    sharp = Queue(servers=4, service_s=0.2, limit_s=0.5, even=True)
    found, _ = search(sharp, Goal(share=0.99, duration_s=6, start=10), seed=1)
    assert found.rate == pytest.approx(20, rel=0.02)
    assert found.low <= found.rate <= (found.high or 0)


def test_the_same_answers_give_the_same_questions() -> None:
    """A search depends on nothing but what it was told."""
    assert search(MANY, Goal(share=0.9, duration_s=20), seed=3) == search(
        MANY, Goal(share=0.9, duration_s=20), seed=3
    )


@pytest.mark.slow
def test_random_arrivals_200_seeds() -> None:
    """Searches with trials of 300 s: all within 5 % of the true edge, and of 100 pairs, each within 5 % of the other."""
    edge = MANY.edge(0.9)
    found = [search(MANY, Goal(share=0.9, duration_s=300), seed)[0] for seed in range(200)]
    assert max(abs(each.rate / edge - 1) for each in found) < 0.05
    pairs = zip(found[::2], found[1::2], strict=True)
    assert max(abs(math.log(one.rate / other.rate)) for one, other in pairs) < 0.05
    assert all(each.sure for each in found)


def test_short_trials_climb_to_the_same_answer() -> None:
    """A climb by trials of a fifth of the length ends at the same edge, in less time."""
    edge = MANY.edge(0.9)
    for seed in range(3):
        whole = search(MANY, Goal(share=0.9, duration_s=300), seed)[0]
        climbed = search(MANY, Goal(share=0.9, duration_s=300, climb_s=60), seed)[0]
        assert climbed.rate == pytest.approx(edge, rel=0.05)
        assert climbed.rate == pytest.approx(whole.rate, rel=0.05)


def test_only_the_climb_is_short() -> None:
    """What fails on the way up is tried again at full length, and so is all that follows."""
    looking, tried = Search(Goal(duration_s=30, climb_s=6)), list[Trial]()
    while isinstance(wanted := looking.next(), Trial):
        tried.append(wanted)
        good = 1000 if wanted.rate <= 6 else 900
        looking.tell(wanted, Result(good=good, sent=1000))
    assert [(each.rate, each.duration_s) for each in tried[:5]] == [(1, 6), (2, 6), (4, 6), (8, 6), (8, 30)]
    assert {each.duration_s for each in tried[4:]} == {30}


@pytest.mark.slow
def test_what_is_called_sure_is_near() -> None:
    """Where trials are too short for the goal, few searches are called sure, and the intervals hold the edge."""
    edge = FEW.edge(0.99)
    found = [search(FEW, Goal(share=0.99, duration_s=60), seed)[0] for seed in range(60)]
    assert sum(each.sure for each in found) < 40
    covered = sum(each.low <= edge <= (each.high or math.inf) for each in found)
    assert covered >= 48


def test_a_short_search_says_that_it_is_not_sure() -> None:
    """Five trials of five seconds find something, and do not call it sure."""
    found, trials = search(FEW, Goal(share=0.99, duration_s=5, trials_max=5), seed=2)
    assert trials == 5
    assert not found.sure
    assert "5 trials" in found.why


def answers(
    goal: Goal, holds_to: float, *, stationary: bool = True, trials: int = 40
) -> tuple[Found, list[float]]:
    """A server on which everything is good up to a load, and nothing above; and what was tried."""
    looking, tried = Search(goal), list[float]()
    while isinstance(wanted := looking.next(), Trial):
        tried.append(wanted.rate)
        assert len(tried) <= trials
        good = 1000 if wanted.rate <= holds_to or not stationary else 0
        looking.tell(wanted, Result(good=good, sent=1000, stationary=stationary or wanted.rate <= holds_to))
    return wanted, tried


def test_users_are_whole() -> None:
    """In a closed loop only whole numbers of users are tried, and the last that holds is found."""
    found, tried = answers(Goal(whole=True), 11)
    assert all(rate == round(rate) for rate in tried)
    assert found.rate == 11
    assert found.sure


def test_it_climbs_from_far_below_and_comes_down_from_far_above() -> None:
    """Wherever it starts, it ends at the same place."""
    for start in (0.01, 1.0, 3000.0):
        assert answers(Goal(start=start), 40)[0].rate == pytest.approx(40, rel=0.03)


def test_nothing_holds() -> None:
    """A server on which nothing is good ends the search with 0, in words."""
    found, _ = answers(Goal(start=1, trials_max=30), 0)
    assert found.rate == 0
    assert "not even" in found.why


def test_a_limit_to_what_is_tried() -> None:
    """What holds up to the highest load that may be tried is said to hold there, and no more."""
    found, tried = answers(Goal(start=10, most=60), 1000)
    assert (found.rate, found.high, found.sure) == (60, None, False)
    assert max(tried) == 60


def test_a_load_that_gets_slower_and_slower_does_not_hold() -> None:
    """Good requests are not enough: a queue that grows all through a trial would have failed in a longer one."""
    found, _ = answers(Goal(), 20, stationary=False)
    assert found.rate == pytest.approx(20, rel=0.08)


def test_one_hiccup_does_not_end_the_climb() -> None:
    """A first failure that is not hopeless is tried once more."""
    looking = Search(Goal(start=2))
    first = looking.next()
    assert isinstance(first, Trial)
    looking.tell(first, Result(good=900, sent=1000))
    second = looking.next()
    assert isinstance(second, Trial)
    assert (second.rate, second.repeat) == (2, 1)
    looking.tell(second, Result(good=1000, sent=1000))
    third = looking.next()
    assert isinstance(third, Trial)
    assert third.rate == 4


def test_a_stopped_search_is_not_sure() -> None:
    """When the client was the limit, what was found so far comes with the reason."""
    looking = Search(Goal())
    first = looking.next()
    assert isinstance(first, Trial)
    looking.tell(first, Result(good=100, sent=100))
    looking.stop("the client was the limit")
    found = looking.next()
    assert isinstance(found, Found)
    assert (found.rate, found.sure, found.why) == (1.0, False, "the client was the limit")


def test_outcomes_that_cluster_count_less() -> None:
    """100 failures in a row tell about as much as one; scattered evenly they tell as much as they are."""
    clustered = [True] * 900 + [False] * 100
    scattered = [number % 10 != 0 for number in range(1000)]
    assert design_effect(clustered) > 50
    assert design_effect(scattered) == 1.0
    assert design_effect([True] * 1000) == 1.0


def test_the_fit_finds_the_crossing_of_exact_shares() -> None:
    """From shares on a logistic curve, the fit has its crossing, and trials that agree leave little error."""
    curve = fit_edge([Point(0.0, 1, 1)], 0.9)
    truth = [(x, 1 / (1 + math.exp(-(3.0 - 40 * x)))) for x in (-0.05, 0.0, 0.03, 0.06)]
    points = [Point(x, 1e5 * share, 1e5 * (1 - share)) for x, share in truth]
    edge = fit_edge(points, 0.9)
    assert edge.x == pytest.approx((3.0 - math.log(9)) / 40, abs=1e-4)
    assert error_by_trials(edge, points) < 0.001 < curve.error
