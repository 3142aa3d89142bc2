"""One answer of the simulated engine: where it ends, and what stop strings leave of it."""

from __future__ import annotations

from inferry.testing.simulated_model import Answer, Limits, Piece
from inferry.testing.simulated_words import Speech, TokenTable


def answer(limits: Limits, prompt: str = "Tell me about lamps") -> Answer:
    table = TokenTable()
    return Answer(Speech(0, table.encode(prompt), table), limits)


def run(limits: Limits) -> list[Piece]:
    under_way = answer(limits)
    pieces = [under_way.step()]
    while pieces[-1].finish is None:
        pieces.append(under_way.step())
    return pieces


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


FREE = run(Limits(1000))
WORDS = text(FREE)


def test_an_answer_ends_by_itself_or_at_the_limit() -> None:
    """Free, it stops with an end token; limited, it has exactly so many tokens, and says `length`."""
    assert FREE[-1].finish == "stop"
    assert FREE[-1].text == ""
    assert [piece.finish for piece in run(Limits(3))] == [None, None, "length"]
    assert text(run(Limits(3))) == text(FREE[:3])


def test_ignore_eos_and_min_tokens_suppress_the_end() -> None:
    """Both make it longer than it would be; words before the suppressed end stay the same."""
    assert len(run(Limits(len(FREE) + 50, ignore_eos=True))) == len(FREE) + 50
    longer = run(Limits(1000, min_tokens=len(FREE) + 5))
    assert len(longer) > len(FREE) + 5
    assert text(longer).startswith(WORDS)


def test_a_stop_string_ends_the_text_before_it() -> None:
    """A stop string that spans tokens is found, cut off, and none of it was shown before."""
    at = len(text(FREE[:5])) - 2
    stop = WORDS[at : at + 6]
    pieces = run(Limits(1000, stop=("never said", stop)))
    assert text(pieces) == WORDS[: WORDS.find(stop)]
    assert (pieces[-1].finish, pieces[-1].stop_reason) == ("stop", stop)
    kept = run(Limits(1000, stop=(stop,), include_stop=True))
    assert text(kept) == WORDS[: WORDS.find(stop)] + stop


def test_a_stop_string_that_never_comes_takes_nothing_away() -> None:
    """Text that is held back in case comes out in the end, whichever way the answer ends."""
    assert text(run(Limits(1000, stop=("never said at all",)))) == WORDS
    assert text(run(Limits(4, stop=("never said at all",)))) == text(FREE[:4])
