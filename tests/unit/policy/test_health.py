"""The table of verdicts: which signs of life keep an engine in, and which silence takes it out."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from inferry.core.health_settings import Health
from inferry.core.replica import HealthVerdict
from inferry.policy.health import RECENT_S, Judgement, Place, judge
from inferry.policy.progress import Answer, Evidence

HEALTH = Health(timeout_s=1, failures_max=3, hand_over_after_s=2, stuck_after_s=10, hung_after_s=120)
IDLE = Evidence(
    silent_s=0.4,
    progress_s=math.inf,
    idle_s=300,
    answered_s=0.4,
    answer=Answer.GOOD,
    reason="answers",
    good=9,
    failed=0,
    unanswered=0,
    working=False,
    streams=0,
    queued=False,
    cpu_share=0.0,
    stopped_s=None,
    longest_pause_s=0.0,
)
MUTE = replace(IDLE, good=0, unanswered=1, reason="gives no answer within 1 s", silent_s=1.2, answered_s=1.2)
WORKS = replace(IDLE, working=True, streams=3, progress_s=0.3, idle_s=0.3, silent_s=0.3, cpu_share=0.9)


def says(seen: Evidence, reported: str | None = None) -> tuple[str, str]:
    judgement = judge(seen, HEALTH, reported=reported)
    return judgement.verdict.value, judgement.place.value


def acts(seen: Evidence) -> tuple[bool, bool]:
    judgement = judge(seen, HEALTH)
    return judgement.hand_over, judgement.end


# --- well -----------------------------------------------------------------------------------------------


def test_an_idle_engine_that_answers_is_ok() -> None:
    """One good probe leaves things as they are, two let it in."""
    assert says(IDLE) == ("ok", "in")
    assert says(replace(IDLE, good=1)) == ("ok", "as before")


def test_progress_outweighs_probes() -> None:
    """While tokens come, an engine that answers no probe is busy, and in."""
    assert says(replace(WORKS, unanswered=20, answered_s=40)) == ("busy", "in")
    assert says(replace(WORKS, unanswered=20, answered_s=40), reported="cut") == ("busy", "in")


def test_full_and_queued_are_busy() -> None:
    """It says that it is full, or that requests wait: it is as alive as can be."""
    assert says(replace(IDLE, answer=Answer.FULL)) == ("busy", "in")
    assert says(replace(WORKS, queued=True)) == ("busy", "in")


def test_one_that_computes_is_busy_though_it_answers_nobody() -> None:
    """A long prompt on a small machine: no token, no answer, and the CPU at its limit."""
    computing = replace(WORKS, progress_s=60, idle_s=60, answered_s=60, unanswered=30, silent_s=0.5)
    assert says(computing) == ("busy", "as before")
    assert acts(computing) == (False, False)


# --- silence --------------------------------------------------------------------------------------------


def test_one_unanswered_probe_and_no_other_sign_stops_new_requests() -> None:
    """The process does nothing and answers nothing: out at once; its requests move after 2 s, it ends after 10 s."""
    assert says(MUTE) == ("stuck", "out")
    assert acts(MUTE) == (False, False)
    assert acts(replace(MUTE, silent_s=2.1)) == (True, False)
    assert acts(replace(MUTE, silent_s=10.1)) == (True, True)


def test_a_stopped_process_is_out_before_any_probe() -> None:
    """SIGSTOP is seen in the process table; the same times count from then, whatever the rest of it says."""
    stopped = replace(IDLE, stopped_s=0.0)
    assert says(stopped) == ("stuck", "out")
    assert acts(stopped) == (False, False)
    assert acts(replace(stopped, stopped_s=2.5)) == (True, False)
    assert acts(replace(stopped, stopped_s=11)) == (True, True)
    assert "stopped by a signal" in judge(stopped, HEALTH).because


def test_where_processes_cant_be_seen_two_unanswered_probes_are_needed() -> None:
    """One may be a lost packet; and requests move only after stuck_after_s, for it may compute unseen."""
    far = replace(MUTE, cpu_share=None)
    assert says(far) == ("busy", "as before")
    assert says(far, reported="connection reset") == ("stuck", "out")
    assert says(replace(far, unanswered=2, silent_s=2.2)) == ("stuck", "out")
    assert acts(replace(far, unanswered=5, silent_s=5)) == (False, False)
    assert acts(replace(far, unanswered=12, silent_s=12)) == (True, True)


def test_spinning_without_an_end_is_stuck_in_the_end() -> None:
    """It uses the CPU, but for hung_after_s nothing came of it and nobody got an answer."""
    spinning = replace(MUTE, cpu_share=1.0, silent_s=0.1, answered_s=119, unanswered=60)
    assert says(spinning) == ("busy", "as before")
    assert acts(replace(spinning, answered_s=121)) == (True, True)


# --- hung, though it answers probes -----------------------------------------------------------------------


def test_requests_and_no_work_done_is_stuck() -> None:
    """It answers probes, has requests, and neither uses the CPU nor makes progress for three times stuck_after_s."""
    hung = replace(WORKS, streams=0, progress_s=40, idle_s=29, cpu_share=0.01)
    assert says(hung) == ("ok", "in")
    assert says(replace(hung, idle_s=31)) == ("stuck", "out")
    assert acts(replace(hung, idle_s=31)) == (True, True)
    assert says(replace(hung, idle_s=31, cpu_share=0.5)) == ("ok", "in")
    assert says(replace(hung, idle_s=31, cpu_share=None)) == ("ok", "in")


def test_running_answers_that_stand_still_are_stuck_after_hung_after() -> None:
    """With the CPU in use, or unseen, the bound is hung_after_s, and only for answers that have begun."""
    still = replace(WORKS, progress_s=121, idle_s=121)
    assert acts(still) == (True, True)
    assert acts(replace(still, cpu_share=None)) == (True, True)
    assert acts(replace(still, streams=0)) == (False, False)
    assert acts(replace(still, progress_s=119, idle_s=119)) == (False, False)


def test_its_own_history_makes_it_patient() -> None:
    """An engine that once paused for 100 s and went on is given 400 s."""
    slow = replace(WORKS, progress_s=399, idle_s=399, longest_pause_s=100)
    assert acts(slow) == (False, False)
    assert acts(replace(slow, progress_s=401, idle_s=401)) == (True, True)
    assert acts(replace(slow, cpu_share=0.0)) == (False, False)


# --- bad answers ----------------------------------------------------------------------------------------


def test_refusals_in_a_row() -> None:
    """The third one takes it out as dead, none before; after stuck_after_s without progress it ends."""
    gone = replace(IDLE, good=0, failed=2, answer=Answer.REFUSED, reason="refuses connections")
    assert says(gone) == ("ok", "as before")
    assert judge(replace(gone, failed=3), HEALTH) == Judgement(
        HealthVerdict.DEAD, Place.OUT, "3 failed probes in a row: refuses connections"
    )
    assert acts(replace(gone, failed=11, answered_s=11)) == (False, True)
    assert acts(replace(gone, failed=11, answered_s=11, progress_s=1)) == (False, False)


def test_a_report_and_one_failed_probe_are_enough() -> None:
    """What a request met there, confirmed by one bad answer, takes it out at once; without one, nothing."""
    gone = replace(IDLE, good=0, failed=1, answer=Answer.REFUSED, reason="refuses connections")
    judgement = judge(gone, HEALTH, reported="cut off")
    assert judgement.place is Place.OUT
    assert "cut off" in judgement.because
    assert "refuses connections" in judgement.because
    assert says(IDLE, reported="cut off") == ("ok", "in")


def test_one_that_says_it_is_unwell_or_loads_is_out_but_lives() -> None:
    """It answers badly: no new requests, and its process stays, for it may know what it does."""
    unwell = replace(IDLE, good=0, failed=30, answer=Answer.UNWELL)
    assert says(unwell) == ("dead", "out")
    assert says(replace(unwell, answer=Answer.LOADING)) == ("busy", "out")
    assert acts(unwell) == (False, False)


# --- what always holds ------------------------------------------------------------------------------------

ages = st.floats(0, 2000)
evidences = st.builds(
    Evidence,
    silent_s=ages,
    progress_s=ages,
    idle_s=ages,
    answered_s=ages,
    answer=st.sampled_from(Answer),
    reason=st.just("r"),
    good=st.integers(0, 5),
    failed=st.integers(0, 20),
    unanswered=st.integers(0, 50),
    working=st.booleans(),
    streams=st.integers(0, 9),
    queued=st.booleans(),
    cpu_share=st.none() | st.floats(0, 4),
    stopped_s=st.none() | ages,
    longest_pause_s=ages,
)


@given(evidences, st.none() | st.just("cut"))
def test_who_makes_progress_is_never_ended_nor_emptied(seen: Evidence, reported: str | None) -> None:
    """Saturated is never stuck: with a token in the last seconds, nothing else can cost it its requests or its
    life; and only a refusal or its own word keeps new requests away."""
    assume(seen.stopped_s is None and seen.progress_s <= RECENT_S)
    judgement = judge(seen, HEALTH, reported=reported)
    assert not judgement.end
    assert not judgement.hand_over
    assert judgement.verdict is not HealthVerdict.STUCK
    if not seen.failed:
        assert judgement.place is Place.IN


@given(evidences, st.none() | st.just("cut"))
def test_nobody_is_ended_before_its_time(seen: Evidence, reported: str | None) -> None:
    """Whatever is seen: no end within stuck_after_s of the last answer or progress."""
    judgement = judge(seen, HEALTH, reported=reported)
    if judgement.end:
        assert judgement.place is Place.OUT
        since_s = (seen.silent_s, min(seen.progress_s, seen.answered_s), seen.idle_s, seen.stopped_s or 0.0)
        assert max(since_s) >= HEALTH.stuck_after_s


@given(evidences)
def test_silence_takes_out_and_ends(seen: Evidence) -> None:
    """An engine of ours that shows nothing at all is out at once, and ended when its time is over."""
    mute = replace(
        seen,
        stopped_s=None,
        failed=0,
        unanswered=max(seen.unanswered, 1),
        cpu_share=seen.cpu_share or 0.0,
        progress_s=max(seen.progress_s, RECENT_S + 0.1),
        silent_s=max(seen.silent_s, HEALTH.timeout_s),
    )
    judgement = judge(mute, HEALTH)
    assert judgement.verdict is HealthVerdict.STUCK
    assert judgement.place is Place.OUT
    assert judgement.end is (mute.silent_s >= HEALTH.stuck_after_s)


@given(evidences)
def test_every_judgement_says_why(seen: Evidence) -> None:
    """Whoever is put out, emptied or ended can be told the reason."""
    judgement = judge(seen, HEALTH)
    assert judgement.because
    assert not (judgement.place is Place.IN and (judgement.hand_over or judgement.end))
