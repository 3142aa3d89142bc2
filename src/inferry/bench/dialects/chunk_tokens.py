"""How many tokens came with each piece of an answer, and how that is known.

The best that the server offers is taken:

1. usage_per_chunk: each piece with text has the server's count up to there, so that differences are exact.
2. ids: token ids, or one log-probability per token, came with each piece with text.
3. usage: only the sum is known, from the end. It is spread over the pieces with text by their share of the
   bytes, though no piece gets less than one token: a text of its own is at least that. So no gap between tokens
   can come out longer than the gap between pieces was, and where there are as many tokens as pieces, each has one.
   Example: 8 tokens over texts of 2, 4 and 10 bytes: by share 1, 2 and 5. With fewer tokens than pieces, each
   piece has the same part of one, as nothing tells which of them belong together.
4. asked: nobody says, and the answer ended by its length: as many tokens as were asked for, spread like usage. Too
   many if the engine has a lower limit of its own.
5. chunks: nobody says. Each piece with text is taken for one token; this is too few where engines send several at
   once.

How near 3 comes: of one answer of vLLM 0.32 with `--stream-interval 4` (SmolLM2-135M, 41 tokens), rules 1 and 2 found
4 tokens in each chunk behind the first, as it was; rule 3 found 2.5 to 5.6, and the first one's single token.

Where the server counts (1, 2), tokens without text of their own (half a letter, the end sign) stand where they came,
but for those before the first text: a reader has seen nothing yet, so that they are the first text's.

Hidden reasoning is counted by the server (`reasoning_tokens`) and never shown, as with OpenAI's own models. Its tokens
were made before the first text, so they are the first piece's as well, and only the others are spread in 3. 1,000
tokens, 900 of them hidden, over 100 texts: the first piece has 901, the others 1 each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from inferry.bench.dialects.heard import Heard, Piece
from inferry.bench.records import TokenSource


class Counted(Struct, frozen=True, kw_only=True):
    """Pieces with tokens, in order; `tokens` sums up to what the server said in all, if it said so."""

    at_s: tuple[float, ...] = ()
    tokens: tuple[float, ...] = ()
    reasoning_tokens: int = 0
    hidden_tokens: int = 0
    """Of the first piece's: reasoning that nobody was shown."""
    source: TokenSource = "none"

    @property
    def sum(self) -> int:
        return round(sum(self.tokens))


def count(heard: Heard, *, asked: int | None = None) -> Counted:
    """The tokens of each piece. Nothing said at all: no pieces. `asked`: how many tokens an answer has that ended by
    its length; None: it did not, or nobody asked for a length."""
    said = heard.said
    if not said:
        return Counted(source="none" if heard.output_tokens is None else "usage")
    final = heard.output_tokens
    hidden = _hidden(heard)
    # With several choices engines differ on whose tokens a piece's usage counts: its own choice's, or all.
    totals = _from_totals(heard.pieces) if len(heard.finishes) <= 1 else None
    ids = [piece.ids or 0 for piece in heard.pieces] if all(piece.ids is not None for piece in said) else None
    told: tuple[tuple[list[int] | None, TokenSource], ...] = ((totals, "usage_per_chunk"), (ids, "ids"))
    for added, source in told:
        counted = None if added is None else _placed(heard.pieces, added)
        if counted and final in (None, sum(tokens for _, tokens in counted)):
            # No more than came with the first piece: what was thought later stands where it came.
            return _result(counted, source, heard, hidden=min(hidden, int(counted[0][1]) - 1))
    if final is not None and final > 0:
        shares = spread([piece.bytes for piece in said], final - hidden)
        shares[0] += hidden
        return _result(list(zip(said, shares, strict=True)), "usage", heard, hidden=hidden)
    if asked is not None and asked >= len(said):
        shares = spread([piece.bytes for piece in said], asked)
        return _result(list(zip(said, shares, strict=True)), "asked", heard)
    return _result([(piece, 1.0) for piece in said], "chunks", heard)


def spread(sizes: Sequence[int], tokens: int) -> list[float]:
    """`tokens` over texts by their share of `sizes`, each at least 1, rule 3 above. All of `sizes` are above 0."""
    if tokens <= len(sizes):
        return [tokens / len(sizes)] * len(sizes)
    left_tokens, left_bytes = float(tokens), sum(sizes)
    shares = [1.0] * len(sizes)
    by_length = sorted(range(len(sizes)), key=sizes.__getitem__)
    for rank, at in enumerate(by_length):
        if sizes[at] * left_tokens >= left_bytes:  # a share of 1 or more, and so have all that are longer
            for longer in by_length[rank:]:
                shares[longer] = sizes[longer] * left_tokens / left_bytes
            break
        left_tokens -= 1.0
        left_bytes -= sizes[at]
    return shares


def _hidden(heard: Heard) -> int:
    """Reasoning that was counted and not shown. None where it would be all of the answer: that can't be, with a text."""
    reasoning, final = heard.reasoning_tokens or 0, heard.output_tokens or 0
    is_shown = any(piece.reasoning_bytes for piece in heard.pieces)
    return reasoning if 0 < reasoning < final and not is_shown else 0


def _from_totals(pieces: Sequence[Piece]) -> list[int] | None:
    """Tokens that each piece added to the server's count; None where that has gaps or falls."""
    added: list[int] = []
    before = 0
    for piece in pieces:
        if piece.total is None:
            if piece.bytes:
                return None
            added.append(0)
            continue
        if piece.total < before:
            return None
        added.append(piece.total - before)
        before = piece.total
    return added


def _placed(pieces: Sequence[Piece], added: Sequence[int]) -> list[tuple[Piece, float]]:
    """Pieces with at least one token, the first of them with text. Nothing if that text had no token."""
    result: list[tuple[Piece, float]] = []
    waiting = 0
    for piece, tokens in zip(pieces, added, strict=True):
        if not result and not piece.bytes:
            waiting += tokens
        elif not result and waiting + tokens == 0:
            return []  # this server counts only at the end
        elif tokens + waiting:
            result.append((piece, float(tokens + waiting)))
            waiting = 0
    return result


def _result(
    counted: list[tuple[Piece, float]], source: TokenSource, heard: Heard, *, hidden: int = 0
) -> Counted:
    reasoning = heard.reasoning_tokens
    if reasoning is None:
        reasoning = round(sum(_reasoning(counted)))
    return Counted(
        at_s=tuple(piece.at_s for piece, _ in counted),
        tokens=tuple(tokens for _, tokens in counted),
        reasoning_tokens=reasoning,
        hidden_tokens=hidden,
        source=source,
    )


def _reasoning(counted: Iterable[tuple[Piece, float]]) -> Iterable[float]:
    """Of each piece's tokens, those of its reasoning; tokens without text go with the text before them."""
    share = 0.0
    for piece, tokens in counted:
        if piece.bytes:
            share = piece.reasoning_bytes / piece.bytes
        yield tokens * share
