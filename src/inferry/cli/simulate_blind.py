"""Rules that see nothing in a simulation: a missing metric never scales, so a report must say that they did nothing."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.scaling_settings import ENGINE, Scaling

NOT_SIMULATED = frozenset({"gpu_memory_use"})


def blind_rules(scaling: Scaling | None) -> Sequence[str]:
    """One sentence for each, with its number and its metric."""
    rules = [] if scaling is None else scaling.rules
    return tuple(
        f"rules[{number}]: {rule.metric} is not simulated, so this rule did nothing; a running one sees it"
        for number, rule in enumerate(rules)
        if rule.metric in NOT_SIMULATED or rule.metric.startswith(ENGINE)
    )
