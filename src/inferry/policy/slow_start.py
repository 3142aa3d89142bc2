"""What share of its weight a replica gets that has just become ready? Pure.

Its caches are cold, its kernels are compiled with its first requests, and under `least_connections` an empty
replica would get every request until it is as full as the others.
"""

from __future__ import annotations

SHARE_MIN = 0.1
"""At once: without any request it would never get warm."""


def share_of(ready_for_s: float, slow_start_s: float) -> float:
    """SHARE_MIN at first, growing evenly to 1 at `slow_start_s`: after 3 of 10 s, 0.37."""
    if ready_for_s >= slow_start_s:
        return 1.0
    return SHARE_MIN + (1.0 - SHARE_MIN) * max(ready_for_s, 0.0) / slow_start_s
