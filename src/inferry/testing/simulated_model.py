"""One answer of the simulated engine: its tokens, its limits, its stop strings."""

from __future__ import annotations

from dataclasses import dataclass

from inferry.testing.simulated_words import END, Speech, Token


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends, as the request says."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    include_stop: bool = False


@dataclass(slots=True)
class Piece:
    """What one step of an answer adds. `json` is `text` as it stands inside a JSON string."""

    token_id: int
    text: str
    json: bytes | None
    """None: not encoded yet, since stop strings changed the text."""
    finish: str | None = None
    stop_reason: str | None = None


class Answer:
    """One choice under way: draws tokens, holds back what may become a stop string, knows the end."""

    __slots__ = ("_hold", "_limits", "_speech", "_withheld", "tokens")

    def __init__(self, speech: Speech, limits: Limits) -> None:
        self._speech = speech
        self._limits = limits
        self._hold = max((len(stop) for stop in limits.stop), default=1) - 1
        self._withheld = ""
        self.tokens = 0

    def step(self) -> Piece:
        limits = self._limits
        may_end = not limits.ignore_eos and self.tokens >= limits.min_tokens
        token = self._speech.next(may_end)
        self.tokens += 1
        if token is END:
            finish: str | None = "stop"
        else:
            finish = "length" if self.tokens >= limits.max_tokens else None
        if limits.stop:
            return self._with_stops(token, finish)
        return Piece(token.id, token.text, token.json, finish)

    def _with_stops(self, token: Token, finish: str | None) -> Piece:
        # The withheld text is shorter than the longest stop string, so a match can't begin before it.
        text = self._withheld + token.text
        found = [(at, stop) for stop in self._limits.stop if (at := text.find(stop)) >= 0]
        if found and self.tokens > self._limits.min_tokens:
            at, stop = min(found)
            end = at + len(stop) if self._limits.include_stop else at
            return Piece(token.id, text[:end], None, "stop", stop)
        if finish is not None:
            return Piece(token.id, text, None, finish)
        shown = max(len(text) - self._hold, 0)
        self._withheld = text[shown:]
        return Piece(token.id, text[:shown], None)
