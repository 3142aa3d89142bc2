"""Who serves and who stands by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferry.core.replica import ReplicaState
from inferry.policy.standby import Standing, decide_roles

S = ReplicaState

standings = st.lists(st.tuples(st.sampled_from(list(S)), st.booleans()), max_size=8).map(
    lambda pairs: [Standing(f"r-{index}", *pair) for index, pair in enumerate(pairs)]
)


def roles(*replicas: tuple[ReplicaState, str], serve: int = 2, standby: int = 1) -> str:
    """As letters: `s` serves, `b` stands by (on the bench)."""
    found = decide_roles(
        [Standing(str(index), state, role == "b") for index, (state, role) in enumerate(replicas)],
        serve,
        standby,
    )
    return "".join("b" if found[str(index)] else "s" for index in range(len(replicas)))


@pytest.mark.parametrize("gone", [S.FAILED, S.PENDING, S.SUSPECT, S.STARTING])
def test_a_standby_takes_over_and_the_other_one_stands_by(gone: ReplicaState) -> None:
    """At once; when it is back, it is what the other one was."""
    assert roles((gone, "s"), (S.READY, "s"), (S.READY, "b")) == "bss"
    assert roles((S.READY, "b"), (S.READY, "s"), (S.READY, "s")) == "bss"


def test_one_that_leaves_counts_no_more() -> None:
    """Its place is taken, and nobody is kept from serving for it."""
    assert roles((S.DRAINING, "s"), (S.READY, "s"), (S.READY, "b")) == "sss"
    assert roles((S.STOPPED, "s"), (S.READY, "s"), (S.READY, "s"), (S.STARTING, "s")) == "sssb"


def test_at_the_start_the_last_ones_stand_by() -> None:
    """And whoever is ready first serves first."""
    assert roles((S.PENDING, "s"), (S.PENDING, "s"), (S.PENDING, "s")) == "ssb"
    assert roles((S.STARTING, "s"), (S.STARTING, "s"), (S.READY, "b")) == "sbs"


def test_a_standby_that_is_not_ready_helps_nobody() -> None:
    """A starting one in place of a suspect one would be no gain."""
    assert roles((S.SUSPECT, "s"), (S.READY, "s"), (S.STARTING, "b")) == "ssb"


def test_one_more_may_serve_while_replicas_are_replaced() -> None:
    """The new one serves beside the others; when an old standby has left, the new one stands by."""
    assert roles((S.READY, "s"), (S.READY, "s"), (S.READY, "b"), (S.READY, "s")) == "ssbs"
    assert roles((S.READY, "s"), (S.READY, "s"), (S.DRAINING, "b"), (S.READY, "s")) == "ssbb"


def test_without_standby_all_serve() -> None:
    """Also those that stood by under the old file."""
    assert roles((S.READY, "s"), (S.READY, "b"), (S.STARTING, "b"), standby=0) == "sss"


@given(standings, st.integers(1, 4), st.integers(0, 3))
def test_roles_are_right_and_stay(replicas: list[Standing], serve: int, standby: int) -> None:
    """As many serve as are wanted and there; no ready one stands by while a place is empty or held by one that is
    not ready; no ready one stops serving for want of a standby; and asked again, nothing changes."""
    before = {each.id: each for each in replicas}
    found = decide_roles(replicas, serve, standby)
    after = [Standing(each.id, each.state, found[each.id]) for each in replicas]
    staying = [each for each in after if each.state not in (S.DRAINING, S.STOPPED)]
    serving = [each for each in staying if not each.standby]
    benched = [each for each in staying if each.standby]
    assert len(serving) >= min(serve, len(staying))
    ready = sum(each.is_ready for each in serving)
    if any(each.is_ready for each in benched):
        assert ready >= serve
    assert standby or not benched
    ready_before = sum(
        each.is_ready and not each.standby for each in before.values() if each.id in {e.id for e in staying}
    )
    assert ready >= min(ready_before, serve)
    assert decide_roles(after, serve, standby) == found
