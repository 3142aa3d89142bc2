"""Engines' own counters are rates."""

from __future__ import annotations

from inferry.policy.scaling.observation import ReplicaReading
from inferry.policy.scaling.own_counters import READINGS_MAX, OwnCounters
from tests.unit.policy.scaling.looks import Looks, scaling_of

NAME = "vllm:num_preemptions_total"
RULE = {"metric": f"engine:{NAME}", "above": 2, "add": 1, "over_s": 60}
QUIET = {"metric": f"engine:{NAME}", "below": 1, "remove": 1, "over_s": 60}


def grow(chat: Looks, per_s: float, duration_s: float, first: float) -> list[int]:
    """What it is decided to have while the counter of each replica grows so fast."""
    found = []
    for look in range(round(duration_s / 10)):
        chat.own = {NAME: first + per_s * 10 * look}
        found.append(chat.look().to)
    return found


def test_a_counter_is_seen_as_what_it_grows_by_per_second() -> None:
    """A million since the start that stands still adds nothing; 3 a second are above 2, and are told as that."""
    chat = Looks(scaling_of(RULE), obeyed=False)
    assert set(grow(chat, 0, 120, 1e6)) == {2}
    assert grow(chat, 3, 120, 1e6)[-1] == 3
    decision = chat.policy.decide(chat.seen[-1])
    assert decision.inputs == {f"engine:{NAME} over 60 s": 3.0}


def test_an_engine_that_starts_again_makes_no_negative_rate() -> None:
    """Its counter falls to 0: there is no figure until there are two readings, and then it is of the new life only, too
    short to agree to fewer."""
    chat = Looks(scaling_of(QUIET), obeyed=False)
    assert grow(chat, 0.5, 120, 1e6)[-1] == 1
    assert grow(chat, 0.5, 40, 0) == [2, 2, 2, 2]
    assert grow(chat, 0.5, 60, 20)[-1] == 1


def test_memory_is_bounded_and_of_replicas_that_serve() -> None:
    """A day of looks is kept as about a hundred readings, and nothing of who left."""
    counters = OwnCounters({3600.0, 60.0})
    for look in range(8640):
        counters.look([ReplicaReading("a", look * 10.0, own={NAME: look * 30.0})])
    assert len(counters._read["a"]) <= READINGS_MAX + 2
    rate = counters.rate("a", NAME, 3600)
    assert rate is not None
    assert abs(rate.per_s - 3) < 1e-9
    assert abs(rate.span_s - 3600) <= 60
    counters.look([ReplicaReading("b", 1e6)])
    assert list(counters._read) == ["b"]
