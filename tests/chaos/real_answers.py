"""Answers of a real engine: the undisturbed one that others must equal, and what the engine itself says when it is
given the beginning of one that came out otherwise."""

from __future__ import annotations

import json
from typing import Any

import httpx

from inferry.engines.continuation import Continued, continuation_of, continue_chat, continue_completion

from .expected_answers import CHAT, Expected
from .strict_client import Ask, Heard


def undisturbed(url: str, path: str, body: dict[str, Any]) -> Expected:
    """What the engine says when nothing happens to it. It must say the same twice."""
    first, second = (_whole(url, path, body) for _ in range(2))
    assert first == second, "this engine is not deterministic: nothing can be compared"
    return first


def _whole(url: str, path: str, body: dict[str, Any]) -> Expected:
    asked = {**body, "stream": False}
    asked.pop("stream_options", None)
    answer = httpx.post(f"{url}{path}", json=asked, timeout=120)
    assert answer.status_code == 200, answer.text
    whole = answer.json()
    choice, usage = whole["choices"][0], whole["usage"]
    text = choice["message"]["content"] if path == CHAT else choice["text"]
    return Expected(text, usage["prompt_tokens"], usage["completion_tokens"], choice["finish_reason"])


def before_the_pause(heard: Heard) -> tuple[str, int]:
    """The text that had come when the engine died, by the client's clock, and the number of its events with text."""
    _, events = heard.longest_pause()
    texts = [text for _, raw in heard.events[:events] if (text := text_of(raw))]
    return "".join(texts), len(texts)


def text_of(raw: bytes) -> str:
    """What one event adds to the answer."""
    data = raw.removeprefix(b"data: ")
    choices = json.loads(data).get("choices") if data.startswith(b"{") else None
    if not choices:
        return ""
    return (choices[0].get("text") or choices[0].get("delta", {}).get("content")) or ""


def engine_goes_on(url: str, engine: str, ask: Ask, delivered: str, tokens: int) -> str:
    """The whole text, where the engine itself is asked to go on behind `delivered`: nothing is resumed there."""
    go_on = continue_chat if ask.path == CHAT else continue_completion
    plan = go_on(continuation_of(engine), ask.body, delivered, tokens)
    assert isinstance(plan, Continued), plan
    # As a stream: an answer in one piece begins, with llama.cpp, with what it was given.
    answer = httpx.post(f"{url}{ask.path}", json=plan.body, timeout=120)
    assert answer.status_code == 200, answer.text
    rest = "".join(map(text_of, answer.content.split(b"\n\n")))
    return delivered + rest.removeprefix(plan.may_repeat)


def excuse(heard: Heard, beginning: str) -> None:
    """Take out the faults that begin so."""
    heard.faults = [each for each in heard.faults if not each.startswith(beginning)]
