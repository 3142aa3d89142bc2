"""Again, or not?"""

from __future__ import annotations

from random import Random

import pytest

from inferry.batch.patience import (
    Answered,
    BrokeOff,
    Done,
    KeyRefused,
    Next,
    NotTaken,
    SoFar,
    TryEnd,
    Unreachable,
    Wait,
    decide_next,
)

DEADLINE_S = 60.0


def decide(end: TryEnd, so_far: SoFar | None = None, retries_max: int = 3) -> Next:
    return decide_next(end, so_far or SoFar(), retries_max=retries_max, deadline_s=DEADLINE_S, dice=Random(7))


@pytest.mark.parametrize("status", [200, 201, 400, 403, 404, 413, 422, 501, 301])
def test_what_would_be_the_same_again_is_kept(status: int) -> None:
    """A good answer, and what is wrong with the request itself."""
    assert decide(Answered(status)) == Done()


@pytest.mark.parametrize(
    "end",
    [
        *map(Answered, (408, 409, 425, 429, 500, 502, 503, 504, 529)),
        Answered(200, is_object=False),
        BrokeOff(),
    ],
)
def test_what_may_pass_is_tried_again(end: TryEnd) -> None:
    """So many tries as there are, each counted; then it is kept as it is."""
    for tries in range(3):
        step = decide(end, SoFar(tries=tries))
        assert isinstance(step, Wait)
        assert step.counts
        assert 0.25 * 2**tries <= step.wait_s <= 0.5 * 2**tries
    assert decide(end, SoFar(tries=3)) == Done()


def test_no_retries_means_one_try() -> None:
    """Zero is a number of retries."""
    assert decide(BrokeOff(), retries_max=0) == Done()


def test_waits_grow_to_half_a_minute_and_no_further() -> None:
    """Also after very many tries."""
    step = decide_next(
        BrokeOff(), SoFar(tries=5000), retries_max=10_000, deadline_s=DEADLINE_S, dice=Random(7)
    )
    assert isinstance(step, Wait)
    assert 15 <= step.wait_s <= 30


def test_no_try_begins_behind_the_deadline() -> None:
    """What there is at the deadline is what is kept."""
    assert decide(BrokeOff(), SoFar(taken_s=59.9)) == Done()
    assert decide(Answered(500, retry_after_s=61.0)) == Done()


def test_a_failure_that_names_a_time_is_left_alone_until_then() -> None:
    """Retry-After of a 5xx is a lower bound of the wait, which counts as a try all the same."""
    step = decide(Answered(502, retry_after_s=20.0))
    assert step == Wait(20.0, counts=True)


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_costs_no_try(status: int) -> None:
    """429 and 503 with Retry-After were not begun: they come back when they are told to, tries used up or not."""
    step = decide(Answered(status, retry_after_s=20.0), SoFar(tries=3))
    assert isinstance(step, Wait)
    assert not step.counts
    assert 20.0 <= step.wait_s <= 20.5


def test_a_refusal_is_never_hammered() -> None:
    """`Retry-After: 0` is answered with half a second's patience."""
    step = decide(Answered(429, retry_after_s=0.0))
    assert isinstance(step, Wait)
    assert step.wait_s >= 0.5


def test_a_long_refusal_is_not_taken() -> None:
    """After a whole deadline of refusals the request is not taken; certain only if the service names a time beyond it."""
    assert decide(Answered(429, retry_after_s=20.0), SoFar(refused_s=41.0)) == NotTaken(is_certain=False)
    assert decide(Answered(429, retry_after_s=7200.0)) == NotTaken(is_certain=True)


def test_nobody_there_is_waited_for() -> None:
    """Without a connection nothing was sent: it is tried every few seconds until the deadline, and costs no try."""
    for refusals in (0, 3, 50):
        step = decide(Unreachable(), SoFar(tries=3, refusals=refusals, refused_s=1.0))
        assert isinstance(step, Wait)
        assert not step.counts
        assert step.wait_s <= 5.0
    assert decide(Unreachable(), SoFar(refused_s=59.9)) == NotTaken(is_certain=False)


def test_a_refused_key_ends_it() -> None:
    """401 is the same for every other request."""
    assert decide(Answered(401, retry_after_s=1.0)) == KeyRefused()
