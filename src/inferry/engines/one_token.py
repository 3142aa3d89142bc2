"""The warm-up of engines that speak OpenAI's completions: one token, which touches weights and kernels."""

from __future__ import annotations

import json

from inferry.core.request import COMPLETIONS
from inferry.engines.adapter import WarmupRequest


def one_token_completion(served_name: str) -> WarmupRequest:
    """A completion of one token at temperature 0."""
    body = {"model": served_name, "prompt": "Hello", "max_tokens": 1, "temperature": 0, "stream": False}
    return WarmupRequest(COMPLETIONS.path, json.dumps(body).encode())
