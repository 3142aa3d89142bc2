"""Who is next, by tokens and priorities: single rules. Simulations are in tests/sim/test_turns_fairness.py."""

from __future__ import annotations

import pytest

from inferry.core.limits import Priority
from inferry.policy.fairness import (
    COMPLETION_TOKENS_FIRST,
    IDLE_MAX,
    PASSED_MAX,
    FairQueue,
    Share,
    service_gap_max,
)


def push(queue: FairQueue, tenant: str, prompt: int = 100, **rest: object) -> Share:
    share = Share(tenant, prompt, **rest)  # type: ignore[arg-type]
    queue.push(share)
    return share


def tenants_in_order(queue: FairQueue) -> list[str]:
    order = []
    while (share := queue.pop()) is not None:
        order.append(share.tenant)
    return order


def test_nobody_waits() -> None:
    """An empty queue gives nothing."""
    assert FairQueue().pop() is None


def test_first_come_first_served_within_a_tenant() -> None:
    """One tenant's requests keep their order, whatever their lengths."""
    queue = FairQueue()
    shares = [push(queue, "a", prompt) for prompt in (500, 1, 90)]
    assert [queue.pop() for _ in shares] == shares


def test_a_late_tenant_does_not_wait_for_the_whole_line() -> None:
    """Ten requests of one tenant wait when another's only one comes: it is the second to go."""
    queue = FairQueue()
    for _ in range(10):
        push(queue, "flood")
    push(queue, "quiet")
    assert tenants_in_order(queue)[:3] == ["flood", "quiet", "flood"]


def test_long_prompts_count_more() -> None:
    """Prompts of 3744 tokens against 744, both with the same answers: one turn against four."""
    queue = FairQueue()
    for _ in range(40):
        push(queue, "long", 3744)
        push(queue, "short", 744)
    order = tenants_in_order(queue)[:25]
    assert (order.count("long"), order.count("short")) == (5, 20)


def test_weights_divide_the_charge() -> None:
    """A tenant of weight 3 has three turns for each one of weight 1."""
    queue = FairQueue()
    for _ in range(40):
        push(queue, "one")
        push(queue, "three", weight=3.0)
    order = tenants_in_order(queue)[:40]
    assert (order.count("one"), order.count("three")) == (10, 30)


def test_a_pause_earns_no_credit() -> None:
    """A tenant that comes after others had 50 turns shares evenly from then on: it does not get 50 in a row."""
    queue = FairQueue()
    for _ in range(100):
        push(queue, "busy")
    for _ in range(50):
        queue.pop()
    for _ in range(50):
        push(queue, "rested")
    order = tenants_in_order(queue)[:20]
    assert order.count("rested") in (10, 11)


def test_a_short_pause_pays_no_debt() -> None:
    """A tenant whose one huge request ran and ended comes back behind those who had less."""
    queue = FairQueue()
    for _ in range(10):
        push(queue, "small", 100)
    huge = Share("huge", 100_000)
    queue.push(huge)
    assert [queue.pop() for _ in range(2)][1] is huge
    queue.settle(huge, 100_000, 128)
    queue.forget_idle()
    push(queue, "huge", 100_000)
    assert tenants_in_order(queue) == ["small"] * 9 + ["huge"]


def test_settling_gives_back_and_takes() -> None:
    """An answer shorter than expected brings its tenant forward; a longer one puts it back."""
    for took, first in ((0, "a"), (5000, "b")):
        queue = FairQueue()
        running = Share("a", 100)
        queue.start(running)
        other = Share("b", 100)
        queue.start(other)
        push(queue, "b")
        push(queue, "a")
        queue.settle(running, 100, took)
        assert tenants_in_order(queue)[0] == first


def test_a_long_stream_is_charged_on_its_way() -> None:
    """Tokens beyond the expectation count at once, and are not charged again at the end."""
    queue = FairQueue()
    stream = Share("a", 100)
    queue.start(stream)
    queue.start(Share("b", 100))
    push(queue, "a")
    push(queue, "b")
    queue.grow(stream, 100)  # below the expectation: nothing changes
    assert stream.charged_completion == COMPLETION_TOKENS_FIRST
    queue.grow(stream, 5000)
    assert stream.cost == 100 + 2 * 5000
    assert tenants_in_order(queue) == ["b", "a"]
    account = stream.account
    assert account is not None
    charged = account.counter
    queue.settle(stream, 100, 5000)
    assert account.counter == charged


def test_the_expectation_is_learnt_and_bounded() -> None:
    """What is charged before is the tenant's own average, and never more than max_tokens allow."""
    queue = FairQueue()
    for _ in range(3):
        share = Share("brief", 10)
        queue.start(share)
        queue.settle(share, 10, 20)
    known = Share("brief", 10)
    queue.start(known)
    assert known.charged_completion == 20
    capped = Share("brief", 10, completion_tokens_max=5)
    queue.start(capped)
    assert capped.charged_completion == 5
    stranger = Share("new", 10)
    queue.start(stranger)
    assert 20 < stranger.charged_completion < COMPLETION_TOKENS_FIRST


def test_priorities_are_strict_but_nobody_starves() -> None:
    """Higher ones go first, but of any ten turns one goes to each priority that waits."""
    queue = FairQueue()
    for priority in ("low", "normal", "high"):
        for _ in range(100):
            push(queue, priority, priority=priority)
    order = tenants_in_order(queue)
    assert order[:PASSED_MAX] == ["high"] * PASSED_MAX
    for first in range(91):
        ten = order[first : first + 10]
        assert ten.count("high") >= 7
        assert min(ten.count("normal"), ten.count("low")) >= 1


def test_a_priority_that_waited_alone_has_no_credit() -> None:
    """Turns that passed while nobody waited there don't count: a newcomer of low priority is no sooner next."""
    queue = FairQueue()
    for _ in range(50):
        push(queue, "a", priority="high")
    for _ in range(20):
        queue.pop()
    push(queue, "b", priority="low")
    assert tenants_in_order(queue).index("b") == PASSED_MAX


def test_removed_ones_are_not_served_and_not_charged() -> None:
    """Who leaves the queue is gone, and its tenant is as it was before."""
    queue = FairQueue()
    gone = push(queue, "a", 10_000)
    push(queue, "a")
    push(queue, "b")
    queue.remove(gone)
    assert queue.waiting == 2
    assert tenants_in_order(queue) == ["a", "b"]


@pytest.mark.parametrize(
    ("tenant", "priority", "loser"),
    [
        ("flood", "normal", "itself"),
        ("quiet", "normal", "newest of flood"),
        ("flood", "high", "newest of flood"),
        ("quiet", "low", "itself"),
    ],
)
def test_who_must_go_when_the_queue_is_full(tenant: str, priority: Priority, loser: str) -> None:
    """The one whose turn would come last: a lower priority first, else the newest of the longest line."""
    queue = FairQueue()
    waiting = [push(queue, "flood") for _ in range(10)]
    victim = queue.outranked(Share(tenant, 100, priority=priority))
    assert victim is (None if loser == "itself" else waiting[-1])


def test_a_waiting_low_one_goes_before_a_normal_one() -> None:
    """A full queue gives up a request of the lowest priority first, not the longest line."""
    queue = FairQueue()
    for _ in range(10):
        push(queue, "flood")
    low = push(queue, "quiet", priority="low")
    assert queue.outranked(Share("flood", 100)) is low


def test_forecast_of_the_position() -> None:
    """A flooding tenant has its own line ahead; another has one request per waiting tenant at most; who is of
    higher priority has none."""
    queue = FairQueue()
    for _ in range(20):
        share = Share("flood", 100)
        queue.start(share)
        queue.settle(share, 100, 128)
    for _ in range(50):
        push(queue, "flood")
    assert queue.ahead(Share("flood", 100)) == 50
    assert 0 <= queue.ahead(Share("quiet", 100)) <= 2
    assert queue.ahead(Share("quiet", 100, priority="high")) == 0
    assert queue.ahead(Share("quiet", 100, priority="low")) == PASSED_MAX + 1


def test_idle_tenants_are_forgotten() -> None:
    """Without anything running or waiting, nothing is remembered; with, at most IDLE_MAX tenants in debt."""
    queue = FairQueue()
    running = Share("stays", 1)
    queue.start(running)
    for number in range(IDLE_MAX + 500):
        share = Share(f"t{number}", 1000)
        queue.push(share)
        queue.pop()
        queue.settle(share, 1000 + number, 0)
    queue.forget_idle()
    assert queue.tenants() <= IDLE_MAX + 1
    queue.settle(running, 1, 1)
    queue.forget_idle()
    assert queue.tenants() == 0


def test_the_stated_bound() -> None:
    """8 slots, prompts to 1000 and answers to 500 tokens: 34,000 weighted tokens."""
    assert service_gap_max(1000, 500, 8) == 34_000
