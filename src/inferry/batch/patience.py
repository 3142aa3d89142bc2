"""Again, or not? What a try's end means for its request. Pure.

what came                           then
2xx with a JSON object              answered
401                                 the run halts: no other request would fare better
429, 503 with Retry-After,          not taken: wait as told, as often as the deadline allows;
  or nobody listens                   longer than that it is "not taken", which the runner judges
other 429, 408, 409, 425, 5xx,      wait and try again, `retries_max` times; then it has failed
  an answer that broke off
every other status, or no URL       failed: the same request would fail again
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

TRY_AGAIN = frozenset({408, 409, 425, 429})
"""As the OpenAI SDK does (408, 409, 429), and 425 (RFC 8470: too early). 5xx besides, but for 501: it stays so."""
REFUSED = frozenset({429, 503})
"""With Retry-After: the request was not begun, so coming back costs nothing."""
WAIT_FIRST_S = 0.5
WAIT_MAX_S = 30.0
WAIT_UNREACHABLE_MAX_S = 5.0
"""A gateway that starts anew is found soon."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer came, of whatever status."""

    status: int
    retry_after_s: float | None = None
    is_object: bool = True
    """The body is a JSON object, as every route's is."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No connection: the request was not sent."""


@dataclass(frozen=True, slots=True)
class BrokeOff:
    """Sent, and the answer did not come to its end."""


@dataclass(frozen=True, slots=True)
class Unsendable:
    """No request can be made of it."""


TryEnd = Answered | Unreachable | BrokeOff | Unsendable


@dataclass(frozen=True, slots=True)
class SoFar:
    """What a request has behind it."""

    tries: int = 0
    """Before this one, without refusals."""
    refusals: int = 0
    taken_s: float = 0.0
    """Since it was sent first, or sent again after a refusal."""
    refused_s: float = 0.0
    """Since the first refusal in a row."""


@dataclass(frozen=True, slots=True)
class Done:
    """Keep what came."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Send it again, so much later."""

    wait_s: float
    counts: bool
    """As one of the tries that a request has."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """It was refused for as long as a deadline. That is no failure of its own."""

    is_certain: bool
    """The service itself says that it will not be for longer than the deadline: the others need not ask."""


@dataclass(frozen=True, slots=True)
class KeyRefused:
    """401: the run can't go on with this key."""


Next = Done | Wait | NotTaken | KeyRefused


def decide_next(end: TryEnd, so_far: SoFar, *, retries_max: int, deadline_s: float, dice: Random) -> Next:
    """What to do now that a try has ended so."""
    retry_after_s = None
    if isinstance(end, Unsendable):
        return Done()
    if isinstance(end, Unreachable):
        return _after_refusal(None, so_far, deadline_s, dice)
    if isinstance(end, Answered):
        retry_after_s = end.retry_after_s
        if end.status == 401:
            return KeyRefused()
        if end.status in REFUSED and retry_after_s is not None:
            return _after_refusal(retry_after_s, so_far, deadline_s, dice)
        if not _is_worth_another(end):
            return Done()
    wait_s = max(_backoff_s(so_far.tries, dice), retry_after_s or 0.0)
    if so_far.tries >= retries_max or so_far.taken_s + wait_s >= deadline_s:
        return Done()
    return Wait(wait_s, counts=True)


def _after_refusal(retry_after_s: float | None, so_far: SoFar, deadline_s: float, dice: Random) -> Next:
    if retry_after_s is None:
        wait_s = min(_backoff_s(so_far.refusals, dice), WAIT_UNREACHABLE_MAX_S)
    else:
        wait_s = max(WAIT_FIRST_S, retry_after_s) + dice.uniform(0, WAIT_FIRST_S)
    if so_far.refused_s + wait_s < deadline_s:
        return Wait(wait_s, counts=False)
    return NotTaken(is_certain=retry_after_s is not None and retry_after_s >= deadline_s)


def _is_worth_another(end: Answered) -> bool:
    if 200 <= end.status < 300:
        return not end.is_object
    return end.status in TRY_AGAIN or (end.status >= 500 and end.status != 501)


def _backoff_s(before: int, dice: Random) -> float:
    """0.5 s, doubled each time up to 30, and then between half and all of that, so that lanes don't march in step."""
    full_s: float = min(WAIT_MAX_S, WAIT_FIRST_S * 2.0 ** min(before, 10))
    return full_s * dice.uniform(0.5, 1.0)
