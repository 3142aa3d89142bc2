"""Which replicas don't come up, and for how long that is so."""

from __future__ import annotations

from inferry.core.replica import ReplicaState, ReplicaView
from inferry.fleet.scaler_starts import FAILING_S, Starts

S = ReplicaState
LONG_S = 10 * FAILING_S


def starts(*states: ReplicaState) -> Starts:
    """One replica went through these, a long time apart."""
    made = Starts()
    for number, state in enumerate(states):
        made.on_view(view(state), number * LONG_S)
    return made


def view(state: ReplicaState) -> ReplicaView:
    return ReplicaView("chat-0", "chat", "simulated", True, state, None, 0.0, 0, message="no memory")


def test_a_crash_loop_is_failing_for_as_long_as_it_lasts() -> None:
    """Down, waiting for its next try, tried again: between and during tries that are far apart it goes on failing, until
    it serves or has left."""
    for after in ([], [S.PENDING], [S.PENDING, S.STARTING], [S.PENDING, S.STARTING, S.FAILED]):
        made = starts(S.STARTING, S.FAILED, *after)
        assert made.failing("chat", 9 * LONG_S) == "chat-0: no memory"
        assert made.failing("other", 9 * LONG_S) == ""
        made.on_view(view(S.READY), 9 * LONG_S)
        assert made.failing("chat", 9 * LONG_S) == ""
    made = starts(S.STARTING, S.FAILED)
    made.on_gone("chat-0")
    assert made.failing("chat", 9 * LONG_S) == ""


def test_one_that_served_and_starts_again_is_on_the_way() -> None:
    """A crash of one that served is failing until it is started again, and no longer."""
    assert starts(S.STARTING, S.READY, S.FAILED, S.PENDING).failing("chat", 9 * LONG_S)
    assert not starts(S.STARTING, S.READY, S.FAILED, S.PENDING, S.STARTING).failing("chat", 9 * LONG_S)
