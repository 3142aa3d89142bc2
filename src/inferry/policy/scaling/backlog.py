"""Which requests that end now never waited in a backlog that is gone by now.

A percentile over a minute goes on about a backlog for a minute after it was worked off. For more replicas that is no
ground: what made those requests slow is over. So once nothing waits any more, latencies are looked at anew from where
those end that were under way at that moment: as many as were at replicas then. (Requests end about in the order in
which they came; who overtakes is one of many.)
"""

from __future__ import annotations

from inferry.policy.scaling.observation import Traffic


class Backlog:
    """Told of each look. Memory: two readings of the counters."""

    def __init__(self) -> None:
        self._was_there = False
        self._gone: Traffic | None = None
        """The first look at which nothing waited any more."""
        self._over: tuple[float, Traffic] | None = None
        """The first at which those had ended that were under way then."""

    def look(self, now_s: float, traffic: Traffic | None, waiting: float | None) -> None:
        """`waiting`: at gateways and engines; None: unknown."""
        if traffic is None or waiting is None:
            return
        if waiting:
            self._was_there, self._gone, self._over = True, None, None
            return
        if not self._was_there:
            return
        counted = self._over[1] if self._over else self._gone
        if counted is None or traffic.ended < counted.ended:  # those counters began anew
            self._gone, self._over = traffic, None
        assert self._gone is not None
        if self._over is None and traffic.ended - self._gone.ended >= self._gone.in_flight:
            self._over = now_s, traffic

    def leaves_its_mark(self, begin_s: float) -> bool:
        """Nothing waits, but of what ended since `begin_s`, some did."""
        if self._gone is None:
            return False
        return self._over is None or self._over[0] > begin_s

    @property
    def over(self) -> Traffic | None:
        """What was counted until its last request had ended; None as long as some may be under way."""
        return self._over[1] if self._over else None
