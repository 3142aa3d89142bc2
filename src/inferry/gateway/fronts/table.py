"""The paths by which inference requests come in, and whose words they are in."""

from __future__ import annotations

from collections.abc import Callable

from inferry.core.errors import InferryError
from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, ROUTES, Dialect, Route
from inferry.gateway.errors import render_error
from inferry.gateway.fronts import ollama_request, tgi_request
from inferry.gateway.fronts.front import Front
from inferry.gateway.fronts.ollama_answer import OllamaErrors, ollama_error
from inferry.gateway.fronts.tgi_answer import TgiErrors, tgi_error

_TGI, _OLLAMA = TgiErrors(), OllamaErrors()

FRONTS: dict[str, Front] = {
    front.path: front
    for front in (
        Front("/generate", COMPLETIONS, tgi_request.generate, _TGI),
        Front("/generate_stream", COMPLETIONS, tgi_request.generate_stream, _TGI),
        Front("/", COMPLETIONS, tgi_request.compat_generate, _TGI),
        Front("/api/chat", CHAT, ollama_request.chat, _OLLAMA),
        Front("/api/generate", CHAT, ollama_request.generate, _OLLAMA),
        Front("/api/embed", EMBEDDINGS, ollama_request.embed, _OLLAMA),
    )
}

ENTRANCES: dict[str, Route | Front] = {**ROUTES, **FRONTS}
ENTRANCES_BYTES: dict[bytes, Route | Front] = {path.encode("ascii"): each for path, each in ENTRANCES.items()}


def error_writer(path: str) -> Callable[[InferryError], bytes]:
    """Who writes errors of requests for `path` that are for no inference route."""
    if path.startswith("/api/"):
        return ollama_error
    if path in ("/generate", "/generate_stream", "/info"):
        return tgi_error
    dialect = Dialect.ANTHROPIC if path.startswith(MESSAGES.path) else Dialect.OPENAI
    return lambda error: render_error(error, dialect)
