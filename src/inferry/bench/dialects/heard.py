"""What an answer said, piece by piece, whichever API it came in."""

from __future__ import annotations

from dataclasses import dataclass, field


def size(text: str | None) -> int:
    """Bytes of a text as UTF-8; none for none."""
    if not text:
        return 0
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


@dataclass(slots=True, frozen=True)
class Piece:
    """Something of the answer that came at one time: text, or the server's word on tokens, or both."""

    at_s: float
    answer_bytes: int = 0
    """Text, a refusal, or a tool call's name and arguments; as UTF-8, the form that most tokenizers cut up."""
    reasoning_bytes: int = 0
    ids: int | None = None
    """Token ids, or log-probabilities, that came with it; None: none were told."""
    total: int | None = None
    """The answer's tokens up to here, as the server counts them; None: not told here."""

    @property
    def bytes(self) -> int:
        return self.answer_bytes + self.reasoning_bytes


@dataclass(slots=True)
class Heard:
    """Filled by a dialect; what is None was not said."""

    pieces: list[Piece] = field(default_factory=list)
    """In the order in which they came."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    """Reasoning's included."""
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    finishes: dict[int, str | None] = field(default_factory=dict)
    """For each choice that was heard of, why it ended."""
    error: str | None = None
    """What the server said went wrong, after it had answered 200."""
    malformed: str | None = None
    """Why it can't be read further."""
    end_mark: bool = False
    """The API's own last word: [DONE], message_stop, response.completed, generated_text."""

    def add(
        self,
        at_s: float,
        *,
        answer: int = 0,
        reasoning: int = 0,
        ids: int | None = None,
        total: int | None = None,
    ) -> None:
        """Note a piece, unless there is nothing in it."""
        if answer or reasoning or ids or total is not None:
            self.pieces.append(Piece(at_s, answer, reasoning, ids, total))

    def finish(self, choice: int, reason: str | None) -> None:
        """Note that a choice exists, and why it ended if that is said. An empty reason is none."""
        if reason:
            self.finishes[choice] = reason
        else:
            self.finishes.setdefault(choice, None)

    @property
    def said(self) -> list[Piece]:
        """The pieces that a reader would see."""
        return [piece for piece in self.pieces if piece.bytes]
