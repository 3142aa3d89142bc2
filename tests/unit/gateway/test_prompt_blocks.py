"""Prompts as chains of hashes: equal ones mean equal beginnings, on every route, and nothing else."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferry.gateway.prompt_blocks import BLOCK_BYTES, BLOCKS_MAX, prompt_blocks

MESSAGES = st.lists(st.text("ab ", max_size=3000), min_size=1, max_size=4)


def chat(texts: list[str], **more: object) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": text} for text in texts], **more}
    ).encode()


def in_common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


@settings(deadline=None)
@given(MESSAGES, MESSAGES)
def test_as_many_blocks_are_equal_as_whole_pieces_of_the_text_are(
    first: list[str], second: list[str]
) -> None:
    """Two prompts have the blocks in common up to the first piece in which their texts differ."""
    texts = [json.dumps(json.loads(chat(each))["messages"]) for each in (first, second)]
    pieces = [[text[at : at + BLOCK_BYTES] for at in range(0, len(text), BLOCK_BYTES)] for text in texts]
    same = next(
        (at for at, (x, y) in enumerate(zip(*pieces, strict=False)) if x != y), min(len(p) for p in pieces)
    )
    assert in_common(prompt_blocks(chat(first), "m"), prompt_blocks(chat(second), "m")) == same


def test_a_conversation_that_goes_on_begins_with_what_it_was() -> None:
    """All whole blocks of a turn are the first ones of the next turn's prompt."""
    turns = ["word " * 1400, "answer " * 300, "and then? " * 100]
    for before, after in pairwise((turns[:1], turns[:2], turns)):
        earlier, later = (prompt_blocks(chat(texts), "m") for texts in (before, after))
        assert in_common(earlier, later) >= len(earlier) - 1


def test_sampling_fields_change_nothing() -> None:
    """Only what the engine reads as the prompt counts."""
    texts = ["word " * 1400]
    assert prompt_blocks(chat(texts), "m") == prompt_blocks(chat(texts, temperature=0.5, stream=True), "m")


@pytest.mark.parametrize(
    "more", [{"tools": [{"type": "function"}]}, {"cache_salt": "mine"}, {"system": "Be brief."}]
)
def test_what_stands_before_the_messages_makes_another_prompt(more: dict[str, object]) -> None:
    """Other tools, another system prompt or a salted cache: nothing in common."""
    texts = ["word " * 1400]
    assert in_common(prompt_blocks(chat(texts), "m"), prompt_blocks(chat(texts, **more), "m")) == 0


def test_equal_tools_are_a_common_beginning() -> None:
    """Agents share long tool lists: other messages after them keep those blocks."""
    tools = [{"type": "function", "description": "word " * 2000}]
    first, second = (prompt_blocks(chat([text], tools=tools), "m") for text in ("one", "two"))
    assert in_common(first, second) >= 4


def test_another_model_or_adapter_shares_nothing() -> None:
    """The seed is part of every block."""
    assert in_common(prompt_blocks(chat(["hello"]), "m"), prompt_blocks(chat(["hello"]), "m:adapter")) == 0


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "word " * 1400},
        {"prompt": ["word " * 1400, "two"]},
        {"input": "word " * 1400},
        {"input": [{"role": "user", "content": "word " * 1400}]},
    ],
)
def test_all_shapes_of_prompts_have_blocks(body: dict[str, object]) -> None:
    """Completions, responses and embeddings are cut like chats."""
    assert len(prompt_blocks(json.dumps({"model": "m", **body}).encode(), "m")) == 4


def test_without_a_prompt_there_are_no_blocks() -> None:
    """A rerank has nothing that a prefix cache would keep."""
    assert prompt_blocks(b'{"model": "m", "query": "a", "documents": ["b"]}', "m") == ()


def test_the_number_of_blocks_is_bounded() -> None:
    """Of a prompt of 2 MB, the first half MB counts."""
    assert len(prompt_blocks(chat(["word " * 400_000]), "m")) == BLOCKS_MAX
