"""A threshold rule: it applies once the metric has been beyond the threshold for `for_s` without a break.

What breaks it: a figure on the other side; for `below`, a figure that is missing; for `above`, one that was missing
for longer than a reading may be old (a shorter gap does not complete it, either).
"""

from __future__ import annotations

from math import ceil

from inferry.core.scaling_settings import LATENCIES, SHARES, ScalingRule
from inferry.policy.scaling.decision import Alert
from inferry.policy.scaling.figures import replicas, seconds, told
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.on_the_way import outlook
from inferry.policy.scaling.patience import left_s
from inferry.policy.scaling.signals import Signals, Value, gap_max_s, input_name_of, name_of
from inferry.policy.scaling.vote import Stance, Vote, amount_of, no_figure

_SHARED = (*(share for share in SHARES if share != "gpu_memory_use"), "running")
"""Fewer replicas have proportionally more of it. (GPU memory is mostly taken beforehand, whatever the load.)"""


class Lasting:
    """Since when something has been so."""

    def __init__(self, gap_max_s: float) -> None:
        self._gap_max_s = gap_max_s
        self._since_s: float | None = None
        self._last_s = 0.0

    def hold(self, now_s: float) -> float:
        """It is so now; for how long it has been."""
        if self._since_s is None or now_s - self._last_s > self._gap_max_s:
            self._since_s = now_s
        self._last_s = now_s
        return now_s - self._since_s

    def stop(self) -> None:
        self._since_s = None


class ThresholdRule:
    """One rule with `above` or `below`, over the looks."""

    def __init__(self, label: str, rule: ScalingRule, every_s: float) -> None:
        self.label = label
        self.rule = rule
        self._every_s = every_s
        self._lasting = Lasting(gap_max_s(every_s))
        self._blind_until_s = float("-inf")
        self._name = name_of(rule)
        self.input_name = input_name_of(rule)
        self._threshold = (
            f"above {told(rule.above)}" if rule.above is not None else f"below {told(rule.below or 0.0)}"
        )

    def begin_anew(self, now_s: float) -> None:
        """A change that this rule asked for was made or took effect: what was seen before is answered.

        A latency counts only requests of after that, or those that waited before it would be answered again.
        """
        self._lasting.stop()
        if self.rule.metric in LATENCIES:
            self._blind_until_s = now_s + self.rule.over_s

    def vote(self, seen: Observation, signals: Signals, start_s: float) -> Vote:
        """Of a rule with `add` or `remove`."""
        value = self.read(signals)
        if value.number is None:
            if self.rule.below is not None:
                self._lasting.stop()
            return no_figure(self.label, seen.wanted, f"no figure: {value.but}")
        if self.rule.add is not None:
            return self._vote_up(value, value.number, seen, signals, start_s)
        return self._vote_down(value, value.number, seen)

    def alert(self, seen: Observation, signals: Signals) -> Alert | None:
        """Of a rule with `alert`, for as long as it applies."""
        value = self.read(signals)
        if value.number is None:
            if self.rule.below is not None:
                self._lasting.stop()
            return None
        fit = value.ups if self.rule.above is not None else value.downs
        if not (fit and self._is_beyond(value.number)):
            self._lasting.stop()
            return None
        held_s = self._lasting.hold(seen.now_s)
        if self._left_s(held_s):
            return None
        return Alert(self.label, f"{self._is(value.number)}{self._for(held_s)}")

    def _vote_up(
        self, value: Value, number: float, seen: Observation, signals: Signals, start_s: float
    ) -> Vote:
        rule, wanted = self.rule, seen.wanted
        assert rule.add is not None
        stays = Stance(wanted, wanted)
        if not self._is_beyond(number):
            self._lasting.stop()
            floor = wanted if not value.downs else self._floor(number, seen)
            calm = Stance(wanted, min(floor, wanted))
            because = f"{self._name} is {told(number)}, not {self._threshold}"
            if value.downs and calm.floor == wanted and wanted > 1:
                because += f"; {wanted - 1} would have too much of it"
            return Vote(self.label, calm, calm, because + self._but(value))
        is_so = self._is(number)
        if not value.ups:
            self._lasting.stop()
            return Vote(self.label, stays, stays, f"{is_so}, but {value.but}")
        blind_s = left_s(self._blind_until_s, seen.now_s, self._every_s)
        if blind_s:
            since = f", but of before the last change, too: {seconds(blind_s)} left"
            return Vote(self.label, stays, stays, is_so + since)
        then = outlook(rule, number, seen, signals, start_s)
        if then.answered or then.tells_nothing:
            if then.answered:
                self._lasting.stop()
            return Vote(self.label, stays, stays, is_so + then.because)
        more = Stance(wanted + amount_of(rule.add, wanted), wanted)
        held_s = self._lasting.hold(seen.now_s)
        because = f"{is_so}{then.because}{self._for(held_s)}"
        if self._left_s(held_s):
            return Vote(self.label, stays, more, because)
        return Vote(self.label, more, more, f"{because}: {more.to - wanted} more")

    def _vote_down(self, value: Value, number: float, seen: Observation) -> Vote:
        rule, wanted = self.rule, seen.wanted
        assert rule.remove is not None
        stays = Stance(wanted, wanted)
        if not self._is_beyond(number):
            self._lasting.stop()
            because = f"{self._name} is {told(number)}, not {self._threshold}"
            return Vote(self.label, stays, stays, because)
        if not value.downs:
            self._lasting.stop()
            return Vote(self.label, stays, stays, f"{self._is(number)}, but {value.but}")
        to = max(wanted - amount_of(rule.remove, wanted), 0)
        fewer = Stance(to, to)
        held_s = self._lasting.hold(seen.now_s)
        because = f"{self._is(number)}{self._for(held_s)}"
        if self._left_s(held_s):
            return Vote(self.label, stays, fewer, because)
        return Vote(self.label, fewer, fewer, f"{because}: {replicas(wanted - to)} fewer")

    def read(self, signals: Signals) -> Value:
        """The metric, as of the latest look."""
        return signals.value(self.rule.metric, self.rule.over_s, self.rule.share)

    def _is_beyond(self, number: float) -> bool:
        if self.rule.above is not None:
            return number > self.rule.above
        return self.rule.below is not None and number < self.rule.below

    def _floor(self, number: float, seen: Observation) -> int:
        """The fewest replicas with which this rule would not ask for more at once.

        Without it, `below: 0.5` and `above: 0.8` go up and down in turns between 1 and 2 replicas at a load of 0.9.
        """
        if self.rule.metric not in _SHARED or not self.rule.above:
            return 0
        return ceil(number * len(seen.serving) / self.rule.above)

    def _is(self, number: float) -> str:
        return f"{self._name} is {told(number)}, {self._threshold}"

    def _left_s(self, held_s: float) -> float:
        return left_s(self.rule.for_s, held_s, self._every_s)

    def _for(self, held_s: float) -> str:
        if not self.rule.for_s:
            return ""
        of = f" of {seconds(self.rule.for_s)}" if self._left_s(held_s) else ""
        return f" for {seconds(held_s)}{of}"

    def _but(self, value: Value) -> str:
        return f", but {value.but}" if value.but else ""
