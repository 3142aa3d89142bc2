"""An inference request as the gateway and the policies see it, and the routes it can come by."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Dialect(StrEnum):
    """Whose error shape and stream framing a route speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """An inference route, the same path at the gateway and at the engine (below its base path).

    Compared by identity: there is one object per route, and it is looked up for every request.
    """

    path: str
    dialect: Dialect
    streams: bool
    """The route knows `"stream": true`."""
    asks_usage: bool = False
    """`stream_options.include_usage` exists here."""
    length_field: str | None = None
    """The route's own field that bounds the answer's tokens. Engines know more of them: see LENGTH_FIELDS."""
    path_bytes: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path_bytes", self.path.encode("ascii"))


CHAT = Route(
    "/v1/chat/completions",
    Dialect.OPENAI,
    True,
    asks_usage=True,
    length_field="max_tokens",
)
COMPLETIONS = Route("/v1/completions", Dialect.OPENAI, True, asks_usage=True, length_field="max_tokens")
EMBEDDINGS = Route("/v1/embeddings", Dialect.OPENAI, False)
RESPONSES = Route("/v1/responses", Dialect.OPENAI, True, length_field="max_output_tokens")
MESSAGES = Route("/v1/messages", Dialect.ANTHROPIC, True, length_field="max_tokens")
COUNT_TOKENS = Route("/v1/messages/count_tokens", Dialect.ANTHROPIC, False)
RERANK = Route("/v1/rerank", Dialect.OPENAI, False)
TOKENIZE = Route("/tokenize", Dialect.OPENAI, False)

LENGTH_FIELDS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n_predict",
    "max_new_tokens",
    "num_predict",
)
"""All names by which an engine may be told the length of an answer; which one it takes is its own affair."""

ROUTES: dict[str, Route] = {
    route.path: route
    for route in (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS, RERANK, TOKENIZE)
}


@dataclass(slots=True)
class InferenceRequest:
    """A decoded and validated request. `body` is what goes to the engine, unless the model is renamed."""

    id: str
    route: Route
    model: str
    stream: bool
    client_wants_usage: bool
    max_tokens: int | None
    """The longest answer that any of its fields asks for; None: it does not say, or says "no end"."""
    choices: int
    """How many answers it asks for, over all its prompts."""
    body: bytes
    max_tokens_param: str = "max_tokens"
    """The field that `max_tokens` stands in."""
    choices_param: str = "n"
    """The field that makes `choices` what it is."""
