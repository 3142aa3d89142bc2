"""TGI's own API: one event per token, the last with the whole text and, if asked for, why it ends."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from inferry.bench.dialects.form import Fields, prompt_text
from inferry.bench.dialects.heard import Heard, size
from inferry.bench.plan import Target
from inferry.bench.records import Ask


class _Token(Struct):
    text: str = ""
    special: bool = False


class _Details(Struct):
    finish_reason: str | None = None
    generated_tokens: int | None = None
    input_length: int | None = None
    prefill: list[msgspec.Raw] | None = None


class _Event(Struct):
    token: _Token | None = None
    generated_text: str | None = None
    details: _Details | None = None


_decode = msgspec.json.Decoder(_Event).decode


class TgiGenerate:
    headers: tuple[tuple[str, str], ...] = ()
    names_an_end = True
    counts_tokens = True

    def streams(self, target: Target) -> bool:
        return target.stream

    def path(self, target: Target) -> str:
        """These routes are at the server's root: the base_url has no /v1."""
        return "/generate_stream" if target.stream else "/generate"

    def fields(self, target: Target, ask: Ask) -> Fields:
        """There is no word for ignore_eos over HTTP: answers may be shorter than asked for."""
        parameters: Fields = {"details": True}
        if ask.output_tokens is not None:
            parameters["max_new_tokens"] = ask.output_tokens
        return {"inputs": prompt_text(ask, "tgi"), "parameters": parameters}

    def hear(self, data: bytes, at_s: float, heard: Heard) -> None:
        """A special token is one that the text does not show."""
        event = _decode(data)
        if event.token is not None:
            shown = 0 if event.token.special else size(event.token.text)
            heard.finish(0, None)
            heard.add(at_s, answer=shown, ids=1)
        if event.generated_text is not None:
            heard.end_mark = True
        _hear_details(event.details, heard)

    def hear_whole(self, body: bytes, at_s: float, heard: Heard) -> None:
        answer = _decode(body)
        heard.finish(0, None)
        heard.add(at_s, answer=size(answer.generated_text))
        _hear_details(answer.details, heard)


def _hear_details(details: _Details | None, heard: Heard) -> None:
    if details is None:
        return
    heard.finish(0, details.finish_reason)
    heard.output_tokens = details.generated_tokens
    if details.input_length is not None:
        heard.input_tokens = details.input_length
    elif details.prefill:
        heard.input_tokens = len(details.prefill)
