"""OpenAI's embeddings: one body, no tokens, nothing that ends."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from inferry.bench.dialects.form import Fields, prompt_text_or_ids
from inferry.bench.dialects.heard import Heard
from inferry.bench.plan import Target
from inferry.bench.records import Ask


class _Vector(Struct):
    embedding: list[float] | str
    """A text if base64 was asked for."""


class _Usage(Struct):
    prompt_tokens: int | None = None


class _Answer(Struct):
    data: list[_Vector]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class Embeddings:
    headers: tuple[tuple[str, str], ...] = ()
    names_an_end = False
    counts_tokens = False

    def streams(self, target: Target) -> bool:
        return False

    def path(self, target: Target) -> str:
        return "/embeddings"

    def fields(self, target: Target, ask: Ask) -> Fields:
        return {"model": target.model, "input": prompt_text_or_ids(ask, "embeddings")}

    def hear(self, data: bytes, at_s: float, heard: Heard) -> None:
        """A stream is no form of this API."""
        raise msgspec.DecodeError("embeddings came as a stream")

    def hear_whole(self, body: bytes, at_s: float, heard: Heard) -> None:
        answer = _decode(body)
        for vector in answer.data:
            heard.add(at_s, answer=len(vector.embedding))
        if answer.usage is not None:
            heard.input_tokens = answer.usage.prompt_tokens
