"""What `scaling:` of a file says, decided look by look. The fleet asks it in production, the simulator in simulations.

In this order: every rule votes (rules.py, targets.py, the sizer), one wish comes out of the votes (combine.py), it is
steadied (steady.py), and bounds hold in any case (bounds.py). Everything that stopped or cut a wish is in `because`.
"""

from __future__ import annotations

from inferry.core.scaling_settings import Scaling, ScalingRule
from inferry.policy.scaling.bounds import Bounds, bounds_in_force
from inferry.policy.scaling.combine import Agreed, agree, leaning
from inferry.policy.scaling.decision import ScalingDecision, Wish
from inferry.policy.scaling.observation import Observation
from inferry.policy.scaling.rules import ThresholdRule
from inferry.policy.scaling.signals import Signals, gap_max_s
from inferry.policy.scaling.sizer import Sizer
from inferry.policy.scaling.steady import Steady
from inferry.policy.scaling.targets import TargetRule
from inferry.policy.scaling.vote import Stance, Vote, no_figure, one_stance

START_S = 120.0
"""How long a replica is taken to start before one did, and without `scaling.start_s`: as the field's tables have it."""


class FileAutoscaler:
    """Decides for one deployment. Its decisions are a function of what it was shown, in that order."""

    def __init__(self, settings: Scaling, *, gpus_per_replica: int = 0, slo: Sizer | None = None) -> None:
        """`gpus_per_replica`: 0 without GPUs; then `gpus_max` bounds nothing."""
        self.settings = settings
        self._gpus_per_replica = gpus_per_replica
        self._slo = slo
        self._rules: list[ThresholdRule | TargetRule] = []
        self._alerts: list[ThresholdRule] = []
        for number, rule in enumerate(settings.rules):
            label = f"rules[{number}] {rule.metric}"
            if rule.target is not None:
                self._rules.append(TargetRule(label, rule))
            else:
                (self._alerts if rule.alert else self._rules).append(
                    ThresholdRule(label, rule, settings.every_s)
                )
        self._only_up = (
            slo is None
            and bool(self._rules)
            and all(rule.rule.remove is None and rule.rule.target is None for rule in self._rules)
        )
        self._signals = Signals(settings.every_s, _windows_of(settings.rules, slo))
        self._up = Steady(settings.up, 1, settings.every_s)
        self._down = Steady(settings.down, -1, settings.every_s)
        self._ordered: ScalingDecision | None = None
        """The last change, until it is seen whether it was made."""
        self._awaited: str = ""
        """The rule whose change was made and whose replicas have not come or gone yet."""
        self._latest: Observation | None = None

    @property
    def every_s(self) -> float:
        return self.settings.every_s

    def decide(self, seen: Observation) -> ScalingDecision:
        self._learn(seen)
        self._signals.look(seen)
        if seen.wanted == 0:
            return self._asleep(seen)
        bounds = bounds_in_force(self.settings, seen.week_minutes, self._gpus_per_replica)
        votes = self._votes(seen, bounds.low)
        alerts = tuple(
            alert for rule in self._alerts if (alert := rule.alert(seen, self._signals)) is not None
        )
        agreed = self._steadied(agree(votes, seen.wanted), votes, seen)
        agreed = self._bounded(agreed, bounds, seen)
        decision = ScalingDecision(
            at_s=seen.now_s,
            was=seen.wanted,
            to=agreed.to,
            rule=agreed.rule if agreed.to != seen.wanted else "",
            because=agreed.because,
            serving=len(seen.serving),
            coming=seen.coming,
            inputs=self._inputs(),
            wishes=tuple(
                Wish(vote.rule, vote.now.to if vote.knows else None, vote.because) for vote in votes
            ),
            alerts=alerts,
        )
        self._ordered = decision if decision.is_change else None
        return decision

    def _learn(self, seen: Observation) -> None:
        """What became of the last change, and whether looks are missing in between."""
        before, ordered = self._latest, self._ordered
        self._latest = seen
        if before is None:
            return
        if seen.now_s - before.now_s > gap_max_s(self.every_s):
            self._up.begin_anew()
            self._down.begin_anew()
        if ordered is not None:
            made = seen.wanted - ordered.was
            if made * (ordered.to - ordered.was) > 0:
                (self._up if made > 0 else self._down).changed(ordered.at_s, abs(made))
                self._awaited = ordered.rule
                self._begin_anew(seen.now_s)
        if self._awaited and {each.id for each in seen.serving} != {each.id for each in before.serving}:
            self._begin_anew(seen.now_s)
            if not seen.coming:
                self._awaited = ""

    def _begin_anew(self, now_s: float) -> None:
        for rule in self._rules:
            if rule.label == self._awaited and isinstance(rule, ThresholdRule):
                rule.begin_anew(now_s)

    def _votes(self, seen: Observation, low: int) -> list[Vote]:
        start_s = self.settings.start_s or seen.start_s or START_S
        votes = [
            rule.vote(seen, self._signals)
            if isinstance(rule, TargetRule)
            else rule.vote(seen, self._signals, start_s)
            for rule in self._rules
        ]
        if self._slo is not None:
            votes.append(_vote_of(self._slo.wish(seen, self._signals), seen.wanted))
        if not votes and self.settings.schedule:
            because = f"nothing but the schedule says how many: its min, {low}"
            votes.append(one_stance("schedule", Stance(low, min(low, seen.wanted)), because))
        return votes

    def _steadied(self, agreed: Agreed, votes: list[Vote], seen: Observation) -> Agreed:
        wanted = seen.wanted
        lean = leaning(votes, wanted)
        self._up.wished(seen.now_s, lean)
        self._down.wished(seen.now_s, lean)
        if agreed.to == wanted:
            return agreed.but(wanted, wanted, "no rule ever asks for fewer" if self._only_up else "")
        steady = self._up if agreed.to > wanted else self._down
        allowed = steady.allow(seen.now_s, wanted, agreed.to)
        return agreed.but(allowed.to, wanted, allowed.because)

    def _bounded(self, agreed: Agreed, bounds: Bounds, seen: Observation) -> Agreed:
        """Bounds hold at once, whatever was steadied: a file that was just changed, a schedule's hour, a budget."""
        wanted, to = seen.wanted, agreed.to
        low = max(bounds.low, 1)
        if to > bounds.high:
            agreed = agreed.bound(
                bounds.high, wanted, bounds.high_by, f"at most {bounds.high}: {bounds.high_by}"
            )
        elif to < low:
            by = bounds.low_by if bounds.low else "the last one leaves when it is idle, by idle_unload_s"
            agreed = agreed.bound(low, wanted, bounds.low_by, f"at least {low}: {by}")
        if seen.failing and agreed.to > wanted:
            agreed = agreed.but(wanted, wanted, f"none is added while they don't come up: {seen.failing}")
        return agreed.but(agreed.to, wanted, bounds.note)

    def _asleep(self, seen: Observation) -> ScalingDecision:
        """With none wanted, a request wakes the deployment, not a rule: 0 and 1 are load on demand's to change."""
        self._up.begin_anew()
        self._down.begin_anew()
        self._ordered, self._awaited = None, ""
        return ScalingDecision(
            seen.now_s, 0, 0, "", "asleep: a request wakes it", len(seen.serving), seen.coming
        )

    def _inputs(self) -> dict[str, float | None]:
        inputs = {each.input_name: each.read(self._signals).number for each in (*self._rules, *self._alerts)}
        if self._slo is not None:
            inputs.update(self._slo.inputs)
        return inputs


def _windows_of(rules: list[ScalingRule], slo: Sizer | None) -> set[float]:
    return {rule.over_s for rule in rules} | set(() if slo is None else slo.windows_s)


def _vote_of(wish: Wish, wanted: int) -> Vote:
    if wish.to is None:
        return no_figure(wish.rule, wanted, wish.because)
    return one_stance(wish.rule, Stance(wish.to, min(wish.to, wanted)), wish.because)
