"""What is measured of one request: milliseconds, from its record's times.

A time that is not known gives None, never 0: an answer in one piece has no gap between tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from msgspec import Struct

from inferry.bench.records import RequestRecord


class Figures(Struct, frozen=True, kw_only=True):
    """Of one request, all in milliseconds."""

    ttft_ms: float | None
    """From sent to the first token, a reasoning one or not."""
    ttft_from_due_ms: float | None
    ttft_answer_ms: float | None
    """From sent to the first token that is no reasoning."""
    e2e_ms: float | None
    """From sent to the end of the answer, its closing words included."""
    e2e_from_due_ms: float | None
    tpot_ms: float | None
    """From the first to the last token, by all tokens but one. What most tools call time per output token. Hidden
    reasoning was over before the first, and is left out."""
    itl_ms: float | None
    """Mean of the gaps between tokens that did not come together with the first."""
    stall_ms: float | None
    """The longest silence between two chunks with tokens."""
    connect_ms: float
    """For a new connection; 0: one was open."""
    slip_ms: float | None
    """From due to sent, without connecting: how late the client was."""


def figures(record: RequestRecord) -> Figures:
    sent, due, end = record.sent_s, record.due_s, answer_end_s(record)
    first, last = record.first_token_s, record.last_token_s
    chunks = list(chunk_gaps_ms(record))
    tpot, shown = None, record.output_tokens - record.hidden_tokens
    if first is not None and last is not None and last > first and shown > 1:
        tpot = (last - first) * 1000 / (shown - 1)
    return Figures(
        ttft_ms=_ms(sent, first),
        ttft_from_due_ms=_ms(due, first),
        ttft_answer_ms=_ms(sent, record.first_answer_s),
        e2e_ms=_ms(sent, end),
        e2e_from_due_ms=_ms(due, end),
        tpot_ms=tpot,
        itl_ms=mean_gap_ms(record),
        stall_ms=max(chunks, default=None),
        connect_ms=record.connect_s * 1000,
        slip_ms=slip_ms(record),
    )


def slip_ms(record: RequestRecord) -> float | None:
    return None if record.sent_s is None else (record.sent_s - record.due_s - record.connect_s) * 1000


def _ms(from_s: float | None, to_s: float | None) -> float | None:
    return None if from_s is None or to_s is None else (to_s - from_s) * 1000


def answer_end_s(record: RequestRecord) -> float | None:
    return record.ended_s if record.ended_s is not None else record.last_token_s


def chunk_gaps_ms(record: RequestRecord) -> Iterator[float]:
    """Between one chunk with tokens and the next."""
    for before, after in pairwise(record.chunk_s):
        yield (after - before) * 1000


def token_gaps_ms(record: RequestRecord) -> Iterator[tuple[float, float]]:
    """Gaps between tokens, and how many there are of each.

    A chunk of k tokens that comes a gap g after the one before gives k gaps of g / k: five tokens after 100 ms are
    five gaps of 20 ms. Of the first chunk there is none: when its tokens were made, one after the other, nobody
    saw, and gaps of 0 would be made up. A chunk of less than one token (its tokens are spread by the text) has its
    gap as it was, with less weight.
    """
    for gap, tokens in zip(chunk_gaps_ms(record), record.chunk_tokens[1:], strict=False):
        if tokens > 0:
            yield gap / max(tokens, 1.0), tokens


def mean_gap_ms(record: RequestRecord) -> float | None:
    """Of the gaps between its tokens; None if there is none.

    A first chunk of 1 token at 0 s, then 5 tokens at 0.1 s: five gaps, 20 ms on average.
    """
    later = sum(record.chunk_tokens[1:])
    return (record.chunk_s[-1] - record.chunk_s[0]) * 1000 / later if later > 0 else None
