"""What an answer is billed, by how far it came."""

from __future__ import annotations

import pytest

from inferry.core.outcome import UsageFrom
from inferry.core.request import CHAT, InferenceRequest
from inferry.gateway.answer import Answer
from inferry.gateway.usage import Usage

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
WHOLE = b'{"choices":[{"message":{"content":"word word"}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}'


def request(*, stream: bool) -> InferenceRequest:
    return InferenceRequest("r", CHAT, "chat", stream, False, None, 1, b"{}")


def answer_of(*reads: bytes, stream: bool = True) -> tuple[Answer, list[int]]:
    counts = [0]
    answer = Answer(request(stream=stream), stream, True, counts, 0)
    for read in reads:
        answer.feed(read)
    return answer, counts


def test_a_whole_answer_is_billed_what_its_engine_says() -> None:
    """Exact, for streams and calls."""
    for answer, _ in (answer_of(ROLE, TOKEN, TOKEN, USAGE), answer_of(WHOLE, stream=False)):
        assert answer.usage(True, 99) == (Usage(7, 2), UsageFrom.ENGINE)


@pytest.mark.parametrize("tokens", [1, 5])
def test_a_stream_cut_off_is_billed_what_went_on(tokens: int) -> None:
    """The tokens relayed, and the prompt as estimated; the book for crashes has the same count."""
    answer, counts = answer_of(ROLE, *[TOKEN] * tokens)
    assert answer.usage(False, 99) == (Usage(99, tokens), UsageFrom.COUNTED)
    assert counts == [tokens]


@pytest.mark.parametrize("reads", [(), (ROLE,), (ROLE, TOKEN[:20])])
def test_no_token_relayed_nothing_billed(reads: tuple[bytes, ...]) -> None:
    """Not even the prompt, though somebody had been told who speaks: as after a crash at that moment."""
    answer, _ = answer_of(*reads)
    assert answer.usage(False, 99) == (Usage(), UsageFrom.NONE)


def test_a_call_cut_off_is_billed_nothing() -> None:
    """Half an answer that is no stream reaches nobody."""
    answer, counts = answer_of(WHOLE[:40], stream=False)
    assert answer.usage(False, 99) == (Usage(), UsageFrom.NONE)
    assert counts == [0]
