"""What one rule says at one look: the number it wants, and the fewest it agrees to."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from inferry.core.scaling_settings import Amount


@dataclass(frozen=True, slots=True)
class Stance:
    """`to` is above what is wanted now for more, below for fewer, and equal where the rule asks for nothing."""

    to: int
    floor: int
    """It agrees to no fewer than these."""


@dataclass(frozen=True, slots=True)
class Vote:
    """Of one rule."""

    rule: str
    now: Stance
    leaning: Stance
    """What it would be if its `for_s` were over: what stabilization looks back on, so that `for_s` and `stabilize_s`
    run side by side and the longer of them holds, not their sum."""
    because: str
    knows: bool = True
    """It has a figure."""


def one_stance(rule: str, stance: Stance, because: str) -> Vote:
    """Of a rule whose wish needs no time to ripen."""
    return Vote(rule, stance, stance, because)


def no_figure(rule: str, wanted: int, because: str) -> Vote:
    """Of a rule that can't tell: it asks for nothing, and agrees to nothing."""
    stays = Stance(wanted, wanted)
    return Vote(rule, stays, stays, because, knows=False)


def amount_of(amount: Amount, replicas: int) -> int:
    """So many replicas; a share of `replicas` is rounded up, and at least 1."""
    if isinstance(amount, int):
        return amount
    return max(ceil(replicas * int(amount.removesuffix("%")) / 100), 1)
