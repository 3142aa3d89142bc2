"""Answers of a real engine, cut after some of their tokens and continued as engines/continuation.py says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferry.engines.continuation import (
    ChatStyle,
    Continued,
    continuation_of,
    continue_chat,
    continue_completion,
)

from .simulated_client import events

Stream = Callable[[str, dict[str, Any]], str]
"""Path and body of a streamed request to its events' text."""
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TOKENS = 20
REQUESTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (CHAT, {"messages": [{"role": "user", "content": "Name three colors and say why you like them."}]}),
    (CHAT, {"messages": [{"role": "user", "content": "Count from one to twenty in words."}]}),
    (COMPLETIONS, {"prompt": "Once upon a time, there was a"}),
)


def pieces(stream: str) -> list[str]:
    """The texts of a stream's events, one token each as a rule."""
    found: list[str] = []
    for event in events(stream):
        for choice in event["choices"] if isinstance(event, dict) else ():
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            if text:
                found.append(text)
    return found


def broken_continuations(engine: str, model: str, stream: Stream, cuts: tuple[int, ...]) -> list[str]:
    """What did not come out as if nothing had been cut: empty if all is well. To the letter with llama.cpp; with other
    engines the text must begin so, and may be longer."""
    wrong: list[str] = []
    continuation = continuation_of(engine)
    for path, request in REQUESTS:
        if path == CHAT and continuation.chat is ChatStyle.NONE:
            continue
        body = {"model": model, "temperature": 0, "max_tokens": TOKENS, "stream": True, **request}
        undisturbed = pieces(stream(path, body))
        assert len(undisturbed) > cuts[0], undisturbed
        for cut in cuts:
            if cut >= len(undisturbed):
                break
            delivered = "".join(undisturbed[:cut])
            go_on = continue_chat if path == CHAT else continue_completion
            plan = go_on(continuation, body, delivered, cut)
            assert isinstance(plan, Continued), plan
            rest = "".join(pieces(stream(path, plan.body)))
            whole = delivered + (rest.removeprefix(plan.may_repeat) if plan.may_repeat else rest)
            wanted = "".join(undisturbed)
            # llama.cpp has an event for each token. vLLM puts several into one when it is behind: then fewer were
            # counted than came, and the rest is longer by those.
            if whole != wanted if engine == "llamacpp" else not whole.startswith(wanted):
                wrong.append(f"{path} cut at {cut}: {whole!r} and not {wanted!r}")
    return wrong
