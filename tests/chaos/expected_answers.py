"""What a simulated engine must say to a request: worked out here, by its own rules, without asking one.

Its next token follows from those before it and the seed alone. So one whole answer is right, whichever replicas
said parts of it, and each other one is wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from inferry.testing.simulated_model import Answer
from inferry.testing.simulated_requests import RequestReader
from inferry.testing.simulated_words import Speech, TokenTable

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True, slots=True)
class Expected:
    """One undisturbed answer."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    """The one that ends an answer by itself is one of them, and has no text."""
    finish_reason: str


def expected_answer(path: str, body: dict[str, Any], context_tokens: int = 8192) -> Expected:
    """The answer to `body` at `path` (chat or completions), of an engine with the default seed."""
    table = TokenTable()
    reader = RequestReader(body["model"], context_tokens, table)
    # As it goes over the wire: what JSON can't say is no part of a request.
    wire = json.loads(json.dumps(body))
    ask = reader.chat(wire) if path == CHAT else reader.completion(wire)
    [prompt] = ask.prompts
    answer = Answer(Speech(ask.seed or 0, prompt, table), ask.limits)
    pieces: list[str] = []
    while True:
        piece = answer.step()
        pieces.append(piece.text)
        if piece.finish is not None:
            return Expected("".join(pieces), len(prompt), len(pieces), piece.finish)
