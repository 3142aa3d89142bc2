"""What belongs together: the same words in each gateway process, and none where nothing is known."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from inferry.gateway.route_facts import OPENING_BYTES_MAX, conversation_of, session_headers
from inferry.policy.routing import Routing

from .stand import served


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "chat", **fields}).encode()


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


HELLO = [turn("system", "be kind"), turn("user", "hello")]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({"messages": HELLO}, {"messages": [*HELLO, turn("assistant", "hi"), turn("user", "more")]}),
        ({"input": [turn("user", "a")]}, {"input": [turn("user", "a"), turn("user", "b")]}),
        ({"input": "hello"}, {"input": "hello", "temperature": 1}),
        ({"prompt": "once upon a time"}, {"prompt": "once upon a time", "max_tokens": 5}),
        ({"prompt_cache_key": "k", "messages": HELLO}, {"prompt_cache_key": "k", "messages": HELLO[1:]}),
        ({"conversation": {"id": "c1"}, "input": "a"}, {"conversation": {"id": "c1"}, "input": "b"}),
        ({"conversation": "c1", "input": "a"}, {"conversation": "c1", "input": "b"}),
    ],
)
def test_a_conversation_is_recognised(first: dict[str, Any], later: dict[str, Any]) -> None:
    """By its id, or by how it begins, however long it has become."""
    assert conversation_of(body(**first)) == conversation_of(body(**later)) is not None


@pytest.mark.parametrize(
    "other",
    [
        {"messages": [turn("system", "be kind"), turn("user", "bye")]},
        {"messages": [turn("system", "be rude"), turn("user", "hello")]},
        {"messages": [turn("user", "hello")], "system": "be rude"},
        {"prompt_cache_key": "k", "messages": HELLO},
    ],
)
def test_other_conversations_are_others(other: dict[str, Any]) -> None:
    """Another system prompt, another first question, another id."""
    assert conversation_of(body(**other)) != conversation_of(body(messages=HELLO))


@pytest.mark.parametrize(
    "text",
    [
        b'{"model":"chat"}',
        b'{"model":"chat","conversation":null}',
        b'{"messages":"x"}',
        b"[1]",
        b"",
        b"\xff",
        b'{"messages":[{"role":3}]}',
    ],
)
def test_what_says_nothing_of_a_conversation_is_no_error(text: bytes) -> None:
    """Whether it is a request at all is judged elsewhere; here it has a conversation or none."""
    assert conversation_of(text) is None


def test_a_long_opening_counts_by_its_beginning() -> None:
    """The work is bounded, whatever a client sends first."""
    long = "x" * OPENING_BYTES_MAX
    assert conversation_of(body(prompt=long + "a")) == conversation_of(body(prompt=long + "b"))


def test_all_processes_say_the_same() -> None:
    """No hash in it differs from process to process: else sessions would part between gateway processes."""
    code = f"from inferry.gateway.route_facts import conversation_of; print(conversation_of({body(messages=HELLO)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == conversation_of(body(messages=HELLO))


def test_only_headers_that_tell_sessions_apart_are_kept() -> None:
    """Of deployments with that policy, and no others."""
    by_header = Routing(policy="session", session_by=["header:X-Chat", "user", "header:x-b"])
    specs = [
        replace(served("chat"), routing=by_header),
        replace(served("other"), routing=Routing(policy="round_robin")),
    ]
    assert session_headers(specs) == {b"x-chat", b"x-b"}
