"""One wish out of many: the highest wins upwards; downwards, all must agree, and the least step is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferry.policy.scaling.vote import Stance, Vote


@dataclass(frozen=True, slots=True)
class Agreed:
    to: int
    rule: str
    """The one that decided; empty where none wants a change, or others forbid it."""
    because: str

    def but(self, to: int, wanted: int, because: str) -> Agreed:
        """Held back, and why; `wanted`: what is wanted before this decision."""
        told = f"{self.because}; {because}" if because else self.because
        return Agreed(to, self.rule if to != wanted else "", told)

    def bound(self, to: int, wanted: int, by: str, because: str) -> Agreed:
        """Brought within a bound, which decides where no rule goes in that direction."""
        same_way = (to - wanted) * (self.to - wanted) > 0
        rule = self.rule if same_way else by.split()[0]
        return Agreed(to, rule if to != wanted else "", f"{self.because}; {because}")


def agree(votes: Sequence[Vote], wanted: int) -> Agreed:
    """What they want now, all together."""
    highest = max(votes, key=lambda vote: vote.now.to, default=None)
    if highest is not None and highest.now.to > wanted:
        return Agreed(highest.now.to, highest.rule, f"{highest.rule}: {highest.because}")
    asking = [vote for vote in votes if vote.now.to < wanted]
    if not asking:
        return Agreed(wanted, "", _nobody_asks(votes))
    least = max(asking, key=lambda vote: vote.now.to)
    to = max(vote.now.floor for vote in votes)
    if to < wanted:
        kept = next((vote for vote in votes if vote.now.floor == to), least)
        less = f"; {kept.rule} agrees to {to}: {kept.because}" if to > least.now.to else ""
        return Agreed(to, least.rule, f"{least.rule}: {least.because}{less}")
    against = next(vote for vote in votes if vote.now.floor >= wanted)
    return Agreed(
        wanted,
        "",
        f"{least.rule} wants {least.now.to} ({least.because}), held by {against.rule}: {against.because}",
    )


def leaning(votes: Sequence[Vote], wanted: int) -> int:
    """What they would want if no rule had a `for_s`."""
    return _number(votes, wanted, lambda vote: vote.leaning)


def _number(votes: Sequence[Vote], wanted: int, of: Callable[[Vote], Stance]) -> int:
    stances = [of(vote) for vote in votes]
    highest = max((stance.to for stance in stances), default=wanted)
    if highest > wanted:
        return highest
    if all(stance.to >= wanted for stance in stances):
        return wanted
    return min(max(stance.floor for stance in stances), wanted)


def _nobody_asks(votes: Sequence[Vote]) -> str:
    missing = [f"{vote.rule}: {vote.because}" for vote in votes if not vote.knows]
    if missing:
        return f"no rule wants a change; {'; '.join(missing)}"
    ripening = [f"{vote.rule}: {vote.because}" for vote in votes if vote.leaning != vote.now]
    if ripening:
        return f"not yet; {'; '.join(ripening)}"
    return "no rule wants a change"
