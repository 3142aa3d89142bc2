"""What a metric would be if the replicas that are on the way served already.

Without this, a rule that is asked every ten seconds answers one peak twelve times while the first replica loads for
two minutes. Two ways to tell, and either is enough to wait:

- Load that is shared shrinks with their number: `value x serving / (serving + coming)`, as Kubernetes' HPA counts
  replicas that are not ready as idle ones. 61 waiting for 2 replicas, with 2 on the way, is about 31.
- A backlog grows for as long as they load, whatever their number, so its size says little; but what comes in and
  what one replica gets done says whether they will carry it. Measured over a window: `(ended - failed) /
  replica-seconds`, which is what a replica carries where requests wait for it, and less where none wait (then this says nothing, and the
  first way decides). Worked: 4.4 requests/s come in, 2 replicas end 2/s: 4 carry 4/s, not enough; 6 do.

Once all serve, a backlog that they work off sooner than another replica would start is no reason for one either. When
nothing waits any more, the percentile of a latency is still of those that did: then the others decide (backlog.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from inferry.core.scaling_settings import LATENCIES, RATES, ScalingRule
from inferry.policy.scaling.figures import told
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.signals import Signals
from inferry.policy.scaling.windows import Window

SURPLUS_MIN = 0.1
"""So much more than comes in must be carried, as a share of it: about what a minute's counts are off by chance."""
UNSHARED = (*RATES, "error_rate")
"""What more replicas leave as it is."""
_BACKLOGGED = ("queue_depth", *LATENCIES)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What an up-rule is to look at instead of the figure that is seen."""

    number: float
    because: str
    """What was added to the figure, for people; empty where nothing was."""
    answered: bool = False
    """Enough is done about it already."""
    tells_nothing: bool = False
    """It says nothing of now: as if it were missing."""


def outlook(rule: ScalingRule, number: float, seen: Observation, signals: Signals, start_s: float) -> Outlook:
    """For a figure that is beyond the threshold of this rule; `start_s`: how long a replica takes to start."""
    metric, above = rule.metric, rule.above
    serving, coming = len(seen.serving), seen.coming
    if metric in UNSHARED:
        return Outlook(number, "")
    if above is None:
        # By how much more replicas raise it is known of no metric: it is looked at again when they serve.
        because = f", and {coming} on the way may change it" if coming else ""
        return Outlook(number, because, answered=bool(coming))
    if coming and not serving:
        return Outlook(number, f", and {coming} on the way are the first to serve", answered=True)
    if coming:
        then = number * serving / (serving + coming)
        if then <= above:
            return Outlook(then, f", and with {coming} on the way about {told(then)}", answered=True)
    if metric in LATENCIES:
        now = signals.since_backlog(metric, rule.over_s, rule.share)
        if now is not None and now.number is None:
            return Outlook(number, f", but {now.but}", tells_nothing=True)
        if now is not None and now.number is not None and now.number <= above:
            because = f", but {told(now.number)} of those that did not wait, and none waits now"
            return Outlook(now.number, because, answered=True)
    window = signals.windows.last(rule.over_s)
    waiting = signals.value("queue_depth", 0.0, 0.0).number
    if metric in _BACKLOGGED and window is not None and waiting:
        carried = _carried(seen, window, waiting, start_s)
        if carried:
            return Outlook(number, carried, answered=True)
    if coming:
        return Outlook(then, f", and with {coming} on the way still about {told(then)}")
    return Outlook(number, "")


def _carried(seen: Observation, window: Window, waiting: float, start_s: float) -> str:
    """How those that serve and come carry the load, for people; empty where they don't, or that can't be told."""
    if window.replica_s <= 0 or not window.full:
        return ""
    come = window.arrived / window.span_s
    # What was refused is no work done: a full queue ends requests as fast as they come.
    done = (window.ended - window.failed) / window.replica_s * (len(seen.serving) + seen.coming)
    surplus = done - come
    if surplus <= 0 or surplus < SURPLUS_MIN * come:
        return ""
    if seen.coming:
        return f", but with {seen.coming} on the way {told(done)}/s get done of {told(come)}/s that come in"
    off_s = waiting / surplus
    if off_s > start_s:
        return ""
    return f", but the {told(waiting)} that wait are worked off in {told(off_s)} s, sooner than another one starts"
