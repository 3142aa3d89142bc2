"""An engine's signs of life: is it well, may it get requests, must it be started again? Pure.

The first line that fits decides:

what is seen                                              verdict  new requests  its requests     its process
a process of it is stopped by a signal                    stuck    no            move after H     killed after S
probes refused, failures_max in a row; or one of them,    dead     no            (break off)      killed after S
  and a request failed there as well                        (busy while tokens come)                without progress
probes answered badly, as often                           dead     no            stay             stays
  (if they say that it loads: busy)
progress within the last RECENT_S                         ok|busy  yes           stay             stays
probes unanswered, and no other sign of life              stuck    no            move after H*    killed after S
probes unanswered, though it uses the CPU                 busy     as before     stay             stays
  without an answer or progress for C                     stuck    no            move             killed
requests under way, no progress for C or, if it does      stuck    no            move             killed
  not use the CPU either, for 3 S
two good probes in a row                                  ok|busy  yes           stay             stays
else                                                      ok|busy  as before     stay             stays

H is hand_over_after_s, S stuck_after_s, both counted from the last sign of life of any kind, or from when the
process was seen to be stopped, which does not go on by itself; H* is S where nobody can see its processes. C is
hung_after_s, and C and 3 S are at least PATIENCE times the longest pause that it ever made and recovered from; C
counts for answers that have begun. "Killed" is for processes of ours alone: see the callers.

Why a busy engine is never hit: whoever computes uses the CPU (a GPU's work is launched from there), answers, or
sends tokens; and each of the three alone keeps it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from inferry.core.health_settings import Health
from inferry.core.replica import HealthVerdict
from inferry.policy.progress import Answer, Evidence

SUCCESSES_TO_RETURN = 2
"""Good probes in a row until a suspect replica is ready again: one alone may fall between two failures."""
RECENT_S = 2.0
"""Progress as new as this outweighs any probe. Less than the 3 s after which a frozen engine must be out."""
UNSEEN_UNANSWERED = 2
"""Probes without an answer where nobody can see the engine's processes: one may be a packet that got lost."""
STILL_SHARE = 0.02
"""Of one core: an engine that uses less has nothing to do. On 2 cores that 20 others wanted, engines that were probed
once a second used 0.0007 (llama.cpp, the simulated one), and llama.cpp that generated with one thread 0.2."""
STILL_FACTOR = 3.0
PATIENCE = 4.0


class Place(StrEnum):
    """Whether new requests shall go there."""

    IN = "in"
    OUT = "out"
    AS_BEFORE = "as before"


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: HealthVerdict
    place: Place
    because: str
    hand_over: bool = False
    """What it has under way shall go on elsewhere."""
    end: bool = False
    """Its process shall be killed and started again, if it is ours."""


def judge(seen: Evidence, health: Health, *, reported: str | None = None) -> Judgement:
    """See the table. `reported`: a failure that a request met there since the last probe."""
    if seen.stopped_s is not None:
        return _silent(seen.stopped_s, health, "a process of it is stopped by a signal", sees_processes=True)
    if (failing := _failing(seen, health, reported)) is not None:
        return failing
    if seen.progress_s <= RECENT_S:
        return Judgement(_alive(seen), Place.IN, "it makes progress")
    if seen.unanswered:
        return _unanswered(seen, health, reported)
    if (because := _why_hung(seen, health)) is not None:
        return Judgement(HealthVerdict.STUCK, Place.OUT, because, hand_over=True, end=True)
    if seen.good >= SUCCESSES_TO_RETURN:
        return Judgement(_alive(seen), Place.IN, f"{seen.good} good probes in a row")
    return Judgement(_alive(seen), Place.AS_BEFORE, seen.reason)


def _failing(seen: Evidence, health: Health, reported: str | None) -> Judgement | None:
    """Something comes back to probes, and it is bad."""
    if not seen.failed or seen.unanswered or (seen.failed < health.failures_max and reported is None):
        return None
    if seen.failed >= health.failures_max:
        because = f"{seen.failed} failed probes in a row: {seen.reason}"
    else:
        because = f"{reported}; and the probe says: {seen.reason}"
    refused = seen.answer is Answer.REFUSED
    lives = seen.answer is Answer.LOADING or seen.progress_s <= RECENT_S
    verdict = HealthVerdict.BUSY if lives else HealthVerdict.DEAD
    # Whatever else it does: nobody can reach it.
    gone = refused and min(seen.progress_s, seen.answered_s) >= health.stuck_after_s
    return Judgement(verdict, Place.OUT, because, end=gone)


def _unanswered(seen: Evidence, health: Health, reported: str | None) -> Judgement:
    """Nothing comes back to probes, and no token either."""
    sees_processes = seen.cpu_share is not None
    if seen.silent_s >= health.timeout_s:
        if sees_processes or reported is not None or seen.unanswered >= UNSEEN_UNANSWERED:
            because = f"no sign of life for {seen.silent_s:.1f} s: {seen.reason}"
            return _silent(seen.silent_s, health, because, sees_processes=sees_processes)
    elif min(seen.progress_s, seen.answered_s) >= health.hung_after_s:
        because = f"it uses the CPU, but {seen.reason}, for {seen.answered_s:.0f} s"
        return Judgement(HealthVerdict.STUCK, Place.OUT, because, hand_over=True, end=True)
    return Judgement(HealthVerdict.BUSY, Place.AS_BEFORE, seen.reason)


def _silent(for_s: float, health: Health, because: str, *, sees_processes: bool) -> Judgement:
    """No sign of life at all."""
    move_after_s = health.hand_over_after_s if sees_processes else health.stuck_after_s
    return Judgement(
        HealthVerdict.STUCK,
        Place.OUT,
        because,
        hand_over=for_s >= move_after_s,
        end=for_s >= health.stuck_after_s,
    )


def _why_hung(seen: Evidence, health: Health) -> str | None:
    """It answers probes, but its work stands still."""
    if not seen.working:
        return None
    learned_s = PATIENCE * seen.longest_pause_s
    if seen.cpu_share is not None and seen.cpu_share < STILL_SHARE:
        bound_s = max(STILL_FACTOR * health.stuck_after_s, learned_s)
        if seen.idle_s >= bound_s:
            return f"it has requests and does nothing, for {seen.idle_s:.0f} s"
    if seen.streams and seen.idle_s >= max(health.hung_after_s, learned_s):
        return f"none of its {seen.streams} running answers has grown for {seen.idle_s:.0f} s"
    return None


def _alive(seen: Evidence) -> HealthVerdict:
    busy = seen.answer is Answer.FULL or seen.queued or seen.unanswered > 0
    return HealthVerdict.BUSY if busy else HealthVerdict.OK
