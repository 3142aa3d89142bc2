"""The routing benchmark's load: prompts that are as long, and begin as much alike, as the trace says."""

from __future__ import annotations

import json
from itertools import takewhile

import pytest
from benchmarks.routing_quality_http import Scale, body_of

from inferry.core.load_traces import TracedRequest
from inferry.testing.simulated_words import TokenTable

SCALE = Scale(tokens=8)


def tokens_of(request: TracedRequest) -> list[int]:
    content = json.loads(body_of(request, SCALE))["messages"][0]["content"]
    return list(TokenTable().encode(content))


@pytest.mark.parametrize("prompt_tokens", [8, 511, 512, 4000])
def test_prompts_are_as_long_as_the_trace_says(prompt_tokens: int) -> None:
    """In the simulated engine's tokens, scaled down; a trace has one block per 512 tokens."""
    blocks = tuple(range(-(-prompt_tokens // 512)))
    assert len(tokens_of(TracedRequest(0.0, prompt_tokens, 1, blocks))) == prompt_tokens // 8


def test_prompts_begin_as_much_alike_as_the_trace_says() -> None:
    """Two that have three blocks in common are equal for as many tokens, and differ with the next one."""
    first = tokens_of(TracedRequest(0.0, 5 * 512, 1, (1, 2, 3, 4, 5)))
    second = tokens_of(TracedRequest(0.0, 5 * 512, 1, (1, 2, 3, 6, 5)))
    alike = list(takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=True)))
    assert len(alike) == 3 * 512 // 8


def test_answers_have_a_token_at_least() -> None:
    """However short they were."""
    assert json.loads(body_of(TracedRequest(0.0, 100, 3, (1,)), SCALE))["max_tokens"] == 1
