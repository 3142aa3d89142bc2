"""Has a stream come to a stop? Judged by its own pace. Pure."""

from __future__ import annotations


def stall_limit_s(longest_pause_s: float, stall_after_s: float, stall_factor: float) -> float:
    """How long a stream may be silent, in seconds, before another replica shall go on with it.

    `longest_pause_s` is that between two reads of this stream so far. An engine that shares its time among many, and
    was silent for 2 s before, may be so for longer; one that sent a token every 20 ms has stopped after
    `stall_after_s`.
    """
    return max(stall_after_s, stall_factor * longest_pause_s)
