"""How many tokens came with each piece: the server's count where it has one, a fair guess where not."""

from __future__ import annotations

import random

import pytest

from inferry.bench.dialects.chunk_tokens import count, spread
from inferry.bench.dialects.heard import Heard, Piece, size


def heard(*pieces: Piece, final: int | None = None, choices: int = 1) -> Heard:
    return Heard(pieces=list(pieces), output_tokens=final, finishes=dict.fromkeys(range(choices), "length"))


def test_usage_in_each_chunk_is_exact() -> None:
    """Counts of 1, 6 and 8 are chunks of 1, 5 and 2, however long their texts are."""
    counted = count(heard(Piece(1, 9, total=1), Piece(2, 1, total=6), Piece(3, 50, total=8), final=8))
    assert (counted.tokens, counted.source) == ((1, 5, 2), "usage_per_chunk")


def test_ids_are_exact_too() -> None:
    """Where no usage comes with the chunks, what ids there are is counted."""
    counted = count(heard(Piece(1, 9, ids=1), Piece(2, 1, ids=5), final=6))
    assert (counted.tokens, counted.source) == ((1, 5), "ids")


def test_the_role_is_no_token_though_its_count_came_early() -> None:
    """Tokens counted before the first text belong to it: the first token is when a reader sees something."""
    counted = count(heard(Piece(1, total=0), Piece(2, total=2), Piece(3, 4, total=3), final=3))
    assert (counted.at_s, counted.tokens) == ((3,), (3,))


def test_a_token_without_text_stands_where_it_came() -> None:
    """Half a letter, or the end sign: the engine made it then, and its step is a gap like others."""
    counted = count(heard(Piece(1, 4, total=1), Piece(2, total=2), Piece(3, 1, total=3), final=3))
    assert (counted.at_s, counted.tokens) == ((1, 2, 3), (1, 1, 1))


def test_a_text_without_a_new_token_is_no_chunk() -> None:
    """One token's text in two chunks, as with tool calls: the second brings no token."""
    counted = count(heard(Piece(1, 4, total=1), Piece(2, 4, total=1), Piece(3, 4, total=2), final=2))
    assert (counted.at_s, counted.tokens) == ((1, 3), (1, 1))


@pytest.mark.parametrize(
    "pieces",
    [
        (Piece(1, 4, total=0), Piece(2, 4, total=0)),  # Ollama's completions
        (Piece(1, 4), Piece(2, 4, total=2)),  # usage with the last text only
        (Piece(1, 4, total=2), Piece(2, 4, total=1)),  # it falls
        (Piece(1, 4, total=1), Piece(2, 4, total=1)),  # it stands still, and the end says 2
        (Piece(1, 4, ids=1), Piece(2, 4)),  # ids with some only
        (Piece(1, 4, ids=1), Piece(2, 4, ids=3)),  # more than the end says
    ],
)
def test_counts_that_can_not_be_true_are_not_believed(pieces: tuple[Piece, ...]) -> None:
    """Then the sum at the end is spread, and the record says that it was."""
    counted = count(heard(*pieces, final=2))
    assert (counted.tokens, counted.source) == ((1, 1), "usage")


def test_usage_of_several_choices_is_not_told_apart() -> None:
    """vLLM's chunks count their own choice, other servers all: only the sum at the end is taken."""
    counted = count(heard(Piece(1, 4, total=1), Piece(2, 4, total=1), final=2, choices=2))
    assert (counted.tokens, counted.source) == ((1, 1), "usage")


def test_nobody_counts() -> None:
    """Then a chunk with text is taken for one token, and empty ones for none."""
    counted = count(heard(Piece(1, 4), Piece(2, 0, 9), Piece(3, total=None)))
    assert (counted.tokens, counted.source) == ((1, 1), "chunks")


@pytest.mark.parametrize(
    ("sizes", "tokens", "expected"),
    [
        ([2, 4, 10], 8, [1, 2, 5]),
        ([1, 2, 30, 3], 4, [1, 1, 1, 1]),
        ([1, 1, 6], 7, [1, 1, 5]),
        ([1, 15], 3, [1, 2]),
        ([5, 5], 1, [0.5, 0.5]),
        ([7], 3, [3]),
    ],
)
def test_a_sum_is_spread_by_the_texts_share(sizes: list[int], tokens: int, expected: list[float]) -> None:
    """The module's example; as many as pieces; a bundle found by its length; never less than one; too few."""
    assert spread(sizes, tokens) == pytest.approx(expected)


def test_texts_are_measured_as_utf_8() -> None:
    """Tokenizers cut bytes: a sign of four bytes weighs as much as four letters."""
    assert [size(text) for text in (None, "", "abcd", "é", "語", "🐙")] == [0, 0, 4, 2, 3, 4]


def test_whatever_came_tokens_sum_up_and_order_stays() -> None:
    """Random answers, counted well, badly or not at all: the sum is the server's, no chunk is empty or out of turn."""
    for seed in range(300):
        check_random_answer(random.Random(seed))


def check_random_answer(chance: random.Random) -> None:
    told = chance.choice(("totals", "ids", "usage", "some totals", "wrong ids"))
    pieces: list[Piece] = []
    made = 0
    for at in range(chance.randint(1, 12)):
        answer, reasoning = chance.choice((0, 3, 9)), chance.choice((0, 0, 4))
        tokens = chance.randint(1, 5) if answer or reasoning else chance.choice((0, 0, 1))
        made += tokens
        total = made if told == "totals" or (told == "some totals" and chance.random() < 0.5) else None
        ids = {"ids": tokens, "wrong ids": chance.randint(0, 3)}.get(told)
        pieces.append(Piece(float(at), answer, reasoning, ids, total))
    counted = count(heard(*pieces, final=made))
    if any(piece.bytes for piece in pieces):
        assert sum(counted.tokens) == pytest.approx(made)
        assert counted.at_s[0] == next(piece.at_s for piece in pieces if piece.bytes)
    assert all(tokens > 0 for tokens in counted.tokens)
    assert list(counted.at_s) == sorted(counted.at_s)
    assert 0 <= counted.reasoning_tokens <= made
    exact = {"totals": "usage_per_chunk", "ids": "ids"}.get(told)
    assert exact is None or not counted.tokens or counted.source == exact


def test_reasoning_is_told_by_text_where_the_server_does_not() -> None:
    """Tokens without a text go with the text before them; half a chunk is half its tokens."""
    pieces = (Piece(1, 0, 8, total=4), Piece(2, total=5), Piece(3, 4, 4, total=7), Piece(4, 4, total=8))
    assert count(heard(*pieces, final=8)).reasoning_tokens == 6


def thought(*pieces: Piece, reasoning: int, final: int) -> Heard:
    said = heard(*pieces, final=final)
    said.reasoning_tokens = reasoning
    return said


def test_hidden_reasoning_is_in_no_gap() -> None:
    """900 of 904 tokens were never shown: they are the first piece's, and the other four are spread over the text."""
    counted = count(thought(*(Piece(at, 4) for at in range(4)), reasoning=900, final=904))
    assert (counted.tokens, counted.hidden_tokens, counted.sum) == ((901, 1, 1, 1), 900, 904)


def test_hidden_reasoning_is_known_from_usage_in_each_chunk_too() -> None:
    """It is no more than what came with the first piece: what was thought between two pieces is in their gap."""
    counted = count(
        thought(Piece(1, 4, total=8), Piece(2, total=11), Piece(3, 4, total=12), reasoning=10, final=12)
    )
    assert (counted.tokens, counted.hidden_tokens) == ((8, 3, 1), 7)


@pytest.mark.parametrize(("shown", "reasoning"), [(4, 5), (0, 8), (0, 9)])
def test_what_was_shown_or_can_not_be_is_not_hidden(shown: int, reasoning: int) -> None:
    """Reasoning that came as text, and counts that would leave no token for the text."""
    pieces = (Piece(1, 4, shown), Piece(2, 4))
    assert count(thought(*pieces, reasoning=reasoning, final=8)).hidden_tokens == 0
