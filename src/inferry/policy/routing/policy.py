"""What a routing policy is: it picks one of the candidates, and hears what becomes of each choice. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, Literal, Protocol

from inferry.policy.routing.facts import RouteFacts, Seen
from inferry.policy.routing.slot import Slot

Fact = Literal["prompt_tokens", "answer_tokens", "blocks", "session"]


class Rng(Protocol):
    """A seeded generator."""

    def random(self) -> float:
        """Evenly from 0 up to, not including, 1."""


class _NoRng:
    def random(self) -> float:
        raise AssertionError("this policy draws: give the balancer a seeded generator")


NO_RNG: Rng = _NoRng()


class Policy:
    """Base of all policies. The balancer calls; times are monotonic seconds.

    `pick` changes nothing that can't be picked again: the balancer counts the request on the slot, and then
    calls `on_chosen`. A slot that is no candidate can be chosen too, as the last resort.
    """

    wants: ClassVar[frozenset[Fact]] = frozenset()
    """Facts that it looks at; others are not worked out."""

    def set_candidates(self, slots: Sequence[Slot]) -> None:
        """From now on these, in any order: called whenever somebody comes, goes, or changes state."""
        raise NotImplementedError

    def pick(self, exclude: Collection[str], facts: RouteFacts, now_s: float) -> Slot | None:
        """One of the candidates whose id is not in `exclude`; None if there is none."""
        raise NotImplementedError

    def why(self, slot: Slot) -> str:
        """Why `slot`, which was just chosen: a few ASCII words for an operator."""
        raise NotImplementedError

    def on_chosen(self, slot: Slot, facts: RouteFacts, now_s: float) -> None:
        """A request goes to `slot`, which counts it already."""

    def on_first_byte(self, slot: Slot, facts: RouteFacts, ttft_s: float, now_s: float) -> None:
        """The first of the answer is here, `ttft_s` after the choice: the prompt is computed."""

    def on_released(self, slot: Slot, facts: RouteFacts, seen: Seen, now_s: float) -> None:
        """The attempt is over, and `slot` counts it no more. Once for each `on_chosen`."""

    def on_load(self, slot: Slot) -> None:
        """The slot's weight, or what others hold there, has changed."""

    def forget(self, slot: Slot) -> None:
        """The replica is gone for good."""
