"""When a length of time is over, as looks see it.

A look that is due after `every_s` comes some milliseconds early or late. Of 300 s, 30 looks of 10 s each, the last one
would find "299.998 s, not yet" as often as not, and act a look later than the file says: a tenth of a look is nothing.
"""

from __future__ import annotations

NOTHING_OF_A_LOOK = 0.1


def left_s(for_s: float, passed_s: float, every_s: float) -> float:
    """What is left of `for_s` once `passed_s` of it are over; 0 where that is less than a tenth of `every_s`."""
    left = for_s - passed_s
    return 0.0 if left <= slack_s(every_s) else left


def slack_s(every_s: float) -> float:
    """How early or late a look may be; never under a microsecond, or sums of binary fractions come a look too late."""
    return max(every_s * NOTHING_OF_A_LOOK, 1e-6)
