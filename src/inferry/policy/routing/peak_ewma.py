"""The replica with the lowest expected wait: its recent peak of latency, times the requests it would hold.

A moving average that jumps up to every new peak and comes down slowly, after Finagle's `PeakEwma` (twitter/finagle,
`finagle-core/.../loadbalancer/PeakEwma.scala`; Linkerd's proxy has the same): a replica that turns slow loses its
requests with the first slow answer, and gets them back by and by. Two things differ, since answers take so long:

- It fades only while no measurement is on its way. Else a replica that hangs would look better by the second; and
  the one that idled longest would get a whole burst, where one request is enough to see how it is.
- A replica that was never measured is taken to be typical as soon as it has its first request.
"""

from __future__ import annotations

from math import exp

from inferry.core.routing_settings import Measure
from inferry.policy.routing.facts import RouteFacts, Seen
from inferry.policy.routing.policy import Rng
from inferry.policy.routing.sampled import Sampled
from inferry.policy.routing.slot import Slot

LEARN = 0.1
"""Share of the newest measurement in what is typical."""


class _Average:
    __slots__ = ("measured_s", "quiet_s", "seconds", "waiting")

    def __init__(self, now_s: float) -> None:
        self.seconds: float | None = None
        """None: never measured."""
        self.measured_s = now_s
        self.waiting = 0
        """Requests whose measurement is on its way."""
        self.quiet_s = now_s
        """Since when there has been none."""


class PeakEwma(Sampled):
    """Expected seconds times `slot.load`."""

    def __init__(self, rng: Rng, measure: Measure, decay_s: float) -> None:
        """`decay_s`: after so long without a measurement, what was known has faded to 1/e."""
        super().__init__(rng)
        self._of_ttft = measure == "ttft"
        self._decay_s = decay_s
        self._averages: dict[Slot, _Average] = {}
        self._typical_s: float | None = None

    def cost(self, slot: Slot, facts: RouteFacts, now_s: float) -> float:
        typical_s = self._typical_s
        if typical_s is None:
            return slot.load
        average = self._averages.get(slot)
        if average is None:
            return 0.0
        seconds = average.seconds
        if average.waiting:
            return (typical_s if seconds is None else seconds) * slot.load
        if seconds is None:
            return 0.0
        return seconds * exp((average.quiet_s - now_s) / self._decay_s) * slot.load

    def on_chosen(self, slot: Slot, facts: RouteFacts, now_s: float) -> None:
        average = self._averages.get(slot)
        if average is None:
            average = self._averages[slot] = _Average(now_s)
        average.waiting += 1

    def on_first_byte(self, slot: Slot, facts: RouteFacts, ttft_s: float, now_s: float) -> None:
        if self._of_ttft:
            self._measured(slot, ttft_s, now_s)

    def on_released(self, slot: Slot, facts: RouteFacts, seen: Seen, now_s: float) -> None:
        if self._of_ttft and seen.answer_began:
            return  # on_first_byte had it
        # What failed says nothing of how long an answer takes: errors come quickly.
        is_answer = seen.answer_began and not seen.failed
        self._measured(slot, seen.duration_s if is_answer else None, now_s)

    def forget(self, slot: Slot) -> None:
        self._averages.pop(slot, None)

    def _measured(self, slot: Slot, seconds: float | None, now_s: float) -> None:
        """None: it came to nothing."""
        average = self._averages.get(slot)
        if average is None:
            return
        average.waiting = max(average.waiting - 1, 0)
        average.quiet_s = now_s
        if seconds is None:
            return
        before = average.seconds
        if before is not None:
            kept = exp((average.measured_s - now_s) / self._decay_s)
            average.seconds = max(seconds, before * kept + seconds * (1 - kept))
        else:
            average.seconds = seconds
        average.measured_s = now_s
        typical_s = self._typical_s
        self._typical_s = seconds if typical_s is None else typical_s + LEARN * (seconds - typical_s)
