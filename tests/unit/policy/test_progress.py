"""Signs of life: what counts as one, and what the ages are counted from."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from inferry.core.replica import ReplicaProgress
from inferry.policy.progress import REPORT_AGE_MAX_S, Answer, Signs


def heard(age_s: float | None, waiting: int = 1, streams: int = 1) -> ReplicaProgress:
    return ReplicaProgress(waiting, streams, age_s)


def test_progress_is_what_any_gateway_heard_last() -> None:
    """The youngest byte of all gateway processes counts, by its age when it was told; the streams add up."""
    signs = Signs(0)
    assert signs.evidence(100).progress_s == math.inf
    signs.on_gateway("gateway-0", heard(3.0, waiting=2, streams=2), 100)
    signs.on_gateway("gateway-1", heard(0.5), 100)
    seen = signs.evidence(101)
    assert (seen.progress_s, seen.streams, seen.working) == (1.5, 3, True)
    signs.on_gateway("gateway-1", None, 101)
    assert signs.evidence(101).streams == 2


def test_a_silent_gateway_process_is_no_witness() -> None:
    """What it said last is forgotten: it may hang, or be gone."""
    signs = Signs(0)
    signs.on_gateway("gateway-0", heard(None), 10)
    assert signs.evidence(10 + REPORT_AGE_MAX_S).working
    assert not signs.evidence(10.1 + REPORT_AGE_MAX_S).working


def test_waiting_is_counted_from_when_there_was_work() -> None:
    """An engine that idled for an hour has not been slow for an hour when its first request comes."""
    signs = Signs(0)
    signs.on_gateway("gateway-0", heard(None, streams=0), 3600)
    for now_s in (3601, 3602, 3603):
        signs.on_gateway("gateway-0", heard(None, streams=0), now_s)
    assert signs.evidence(3604).idle_s == 4


def test_counters_that_grow_are_progress_and_others_are_nothing() -> None:
    """llama.cpp counts a request's tokens at its end: standing still proves nothing; starting anew neither."""
    signs = Signs(0)
    signs.on_counters(1, 0, 50, 10, 10)
    signs.on_counters(1, 0, 50, 10, 20)
    assert signs.evidence(20).progress_s == math.inf
    signs.on_counters(1, 3, 51, 10, 30)
    seen = signs.evidence(31)
    assert (seen.progress_s, seen.queued, seen.working) == (1, True, True)
    signs.on_counters(0, 0, 0, 0, 40)
    assert signs.evidence(40).progress_s == 10


def test_cpu_time_is_a_sign_of_life_and_its_share_counts_from_the_last_progress() -> None:
    """Each tick resets the silence; the share of a core is what it used since it last got on."""
    signs = Signs(0)
    assert signs.evidence(5).cpu_share is None
    signs.on_gateway("gateway-0", heard(None), 5)
    signs.on_vitals(10.0, False, 5)
    signs.on_vitals(10.5, False, 6)
    seen = signs.evidence(6)
    assert (seen.silent_s, seen.cpu_share) == (0, 0.5)
    signs.on_vitals(10.5, False, 8)
    seen = signs.evidence(8)
    assert seen.silent_s == 2
    assert round(seen.cpu_share or 0, 3) == 0.167
    signs.on_gateway("gateway-0", heard(0), 9)
    assert signs.evidence(10).cpu_share == 0


def test_an_answer_is_a_sign_of_life_and_a_refusal_none() -> None:
    """The kernel refuses connections for the dead."""
    signs = Signs(0)
    signs.on_answer(Answer.REFUSED, "refuses connections", 5)
    assert signs.evidence(5).silent_s == 5
    assert (signs.evidence(5).failed, signs.evidence(5).good) == (1, 0)
    signs.on_answer(Answer.UNWELL, "answers 500", 6)
    assert (signs.evidence(6).silent_s, signs.evidence(6).failed) == (0, 2)
    signs.on_answer(Answer.GOOD, "answers", 7)
    signs.on_unanswered("gives no answer within 1 s")
    seen = signs.evidence(8)
    assert (seen.good, seen.failed, seen.unanswered, seen.silent_s) == (0, 0, 1, 1)


def test_time_that_we_slept_through_is_not_held_against_it() -> None:
    """After a minute in which we stood still, all ages are what they were before it."""
    signs = Signs(0)
    signs.on_gateway("gateway-0", heard(0), 10)
    signs.on_vitals(1.0, False, 10)
    signs.forgive(60)
    seen = signs.evidence(71)
    assert (seen.silent_s, seen.progress_s, seen.streams) == (1, 1, 1)


def test_the_longest_pause_is_learned_and_fades() -> None:
    """Only pauses with work to do, that ended in progress, count; later short ones let it fade slowly."""
    signs = Signs(0)
    signs.on_gateway("gateway-0", heard(0), 1)
    signs.on_gateway("gateway-0", None, 2)
    signs.on_gateway("gateway-0", heard(None), 50)
    now_s = 50.0
    while now_s < 58:
        now_s += 1
        signs.on_gateway("gateway-0", heard(None), now_s)
    signs.on_gateway("gateway-0", heard(0), 59)
    assert signs.evidence(59).longest_pause_s == 9
    for now_s in range(60, 160):
        signs.on_gateway("gateway-0", heard(0), now_s)
    assert 1 < signs.evidence(160).longest_pause_s < 3


@given(st.lists(st.tuples(st.floats(0, 2), st.sampled_from(["byte", "probe", "cpu", "mute", "refused"]))))
def test_ages_never_contradict_each_other(steps: list[tuple[float, str]]) -> None:
    """Whatever comes in whatever order: the silence is never longer than the age of any sign, nor negative."""
    signs, now_s, cpu_s = Signs(0), 0.0, 0.0
    for wait_s, what in steps:
        now_s += wait_s
        match what:
            case "byte":
                signs.on_gateway("gateway-0", heard(0), now_s)
            case "probe":
                signs.on_answer(Answer.GOOD, "answers", now_s)
            case "cpu":
                cpu_s += 0.01
                signs.on_vitals(cpu_s, False, now_s)
            case "mute":
                signs.on_unanswered("no answer")
            case "refused":
                signs.on_answer(Answer.REFUSED, "refused", now_s)
        seen = signs.evidence(now_s)
        assert 0 <= seen.silent_s <= min(seen.progress_s, seen.answered_s)
        assert seen.idle_s <= seen.progress_s
        assert not (seen.good and (seen.failed or seen.unanswered))
        assert seen.cpu_share is None or seen.cpu_share >= 0
