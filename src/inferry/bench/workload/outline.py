"""A request before its text is written: most are written by other processes, and only the order is needed here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from inferry.bench.chance import stream
from inferry.bench.records import Ask
from inferry.bench.tokens import Parts, Wording, Writer, token_ids


class Outline(NamedTuple):
    number: int
    session: int | None
    make: Callable[[], Ask]
    after: int | None = None
    """A later turn of a conversation: the number of the turn before, and how long after its end this one is due."""
    think_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Script:
    """What text of a run is made from."""

    seed: int
    nonce: str
    wording: Wording
    writer: Writer

    def chance(self, *purpose: object, unique: bool = True) -> Random:
        """For one piece of text. Not `unique`: the same in each run with this seed."""
        return stream(self.seed, self.nonce if unique else "", *purpose)

    def overhead_tokens(self, *, by_ids: bool) -> int:
        """Engines put nothing around ids."""
        return 0 if by_ids else self.wording.overhead_tokens

    def content_tokens(self, wanted: int, *, by_ids: bool) -> int:
        """Tokens of the prompt itself; at least 1."""
        return max(1, wanted - self.overhead_tokens(by_ids=by_ids))

    def written(self, parts: Parts, *, by_ids: bool) -> tuple[str | None, tuple[int, ...] | None]:
        """As `text` and `token_ids` of an Ask."""
        return (None, token_ids(parts)) if by_ids else (self.writer.text(parts), None)
