"""What of a request makes its prompt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Route
from inferry.gateway.prompt_reader import ChatPrompt, Skipped, TextPrompts, read_prompt

HI = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "S"}
TOOL = {"type": "function", "function": {"name": "f"}}
PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def read(route: Route, **fields: Any) -> ChatPrompt | TextPrompts | Skipped:
    return read_prompt(route, json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("route", "fields", "prompt"),
    [
        (CHAT, {"messages": [HI], "model": "m", "temperature": 0}, ChatPrompt([HI])),
        (CHAT, {"messages": [HI], "tools": [TOOL]}, ChatPrompt([HI], [TOOL])),
        (CHAT, {"messages": [HI], "tools": []}, ChatPrompt([HI])),
        (CHAT, {"messages": [HI], "add_generation_prompt": False}, ChatPrompt([HI], None, {}, False)),
        (CHAT, {"messages": [HI], "chat_template_kwargs": {"x": 1}}, ChatPrompt([HI], None, {"x": 1})),
        (CHAT, {"messages": [{"role": "user", "content": PARTS}]}, ChatPrompt([{"role": "user", "content": PARTS}])),
        (
            CHAT,
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": '{"a":1}'}}]}, HI]},
            ChatPrompt([{"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": {"a": 1}}}]}, HI]),
        ),
        (COMPLETIONS, {"prompt": "a"}, TextPrompts(["a"])),
        (COMPLETIONS, {"prompt": ["a"]}, TextPrompts(["a"])),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, TextPrompts([], 3)),
        (MESSAGES, {"system": "S", "messages": [HI], "max_tokens": 9}, ChatPrompt([SYSTEM, HI])),
        (RESPONSES, {"instructions": "S", "input": "Hi"}, ChatPrompt([SYSTEM, HI])),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]},
            ChatPrompt([{"role": "user", "content": PARTS[:1]}]),
        ),
    ],
)  # fmt: skip
def test_prompts_of_each_route(route: Route, fields: dict[str, Any], prompt: object) -> None:
    """Messages, tools and template arguments, or texts, come out as a template or a tokenizer takes them."""
    assert read(route, **fields) == prompt


@pytest.mark.parametrize(
    ("route", "fields", "because"),
    [
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "no text"),
        (CHAT, {"messages": [HI, {"role": "assistant", "content": "H"}]}, "continue"),
        (CHAT, {"messages": [HI], "chat_template": "x"}, "chat_template"),
        (CHAT, {"messages": [HI], "tools": [TOOL], "tool_choice": "none"}, "tool_choice"),
        (CHAT, {"messages": [{**HI, "tool_calls": [{"function": {"arguments": "{"}}]}, HI]}, "arguments"),
        (CHAT, {"messages": [5]}, "unknown kind"),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "unknown kind"),
        (CHAT, {"messages": []}, "continue"),
        (CHAT, {}, "no messages"),
        (COMPLETIONS, {"prompt": ["a", "b"]}, "several"),
        (COMPLETIONS, {"prompt": [[1], [2]]}, "several"),
        (COMPLETIONS, {"prompt": "a", "suffix": "b"}, "suffix"),
        (COMPLETIONS, {"prompt": None}, "no prompt"),
        (MESSAGES, {"messages": [HI], "tools": [{"name": "f"}]}, "tools"),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "no text"),
        (RESPONSES, {"input": "Hi", "previous_response_id": "r"}, "previous_response_id"),
        (RESPONSES, {"input": [{"type": "function_call_output"}]}, "no message"),
        (EMBEDDINGS, {"input": "Hi"}, "no prompt here"),
    ],
)  # fmt: skip
def test_prompts_that_can_not_be_counted(route: Route, fields: dict[str, Any], because: str) -> None:
    """Pictures, continued answers and what engines translate in their own ways are left alone, with the reason."""
    found = read(route, **fields)
    assert isinstance(found, Skipped)
    assert because in found.because


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a":"\xff"}', b"[" * 5000])
def test_bodies_that_are_no_request(body: bytes) -> None:
    """Nothing that comes in raises."""
    assert read_prompt(CHAT, body) == Skipped("not JSON")
