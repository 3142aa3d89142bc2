"""What a server can do, found out by tiny requests: at most 16 tokens each, at temperature 0. Pure, as identify.

Nothing is concluded from an engine's name: builds, flags and proxies between change what it can do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RERANK, RESPONSES, TOKENIZE
from inferry.engines.engine_identity import Question, Reply


class Can(StrEnum):
    YES = "yes"
    NO = "no"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Feature:
    """One line of the report."""

    name: str
    can: Can
    detail: str
    """What was seen, in a few words."""


Probing = Generator[Question, Reply, Feature]
_QUESTION = [{"role": "user", "content": "Count from one to ten in words, with commas."}]
_PARTIAL = {"role": "assistant", "content": "One, two, three, four, five, six,"}
_SAMPLE = re.compile(rb"^[a-zA-Z_:][\w:]*(\{.*\})? [0-9.+-]", re.MULTILINE)
_SHOWN_MAX = 100


def probe(model: str) -> Generator[Question, Reply, list[Feature]]:
    """All features, in the report's order. `model`: the name to ask for."""
    found: list[Feature] = []
    for probing in (
        _route("health page", Question("/health")),
        _metrics(),
        _route("chat", _chat(model, max_tokens=1)),
        _stream(model),
        _continuous_usage(model),
        _log_probabilities(model),
        _prefill("goes on by a trailing message", model, {}),
        _prefill("goes on by continue_final_message", model, {
            "continue_final_message": True, "add_generation_prompt": False,
        }),
        _structured(model),
        _route("completions", _completion(model)),
        _token_ids(model),
        _tokenize(model),
        _route("responses", Question(RESPONSES.path, {
            "model": model, "input": "Hi", "max_output_tokens": 16, "temperature": 0,
        })),
        _route("messages (Anthropic)", Question(MESSAGES.path, {
            "model": model, "messages": _QUESTION, "max_tokens": 1,
        })),
        _route("embeddings", Question(EMBEDDINGS.path, {"model": model, "input": "Hi"})),
        _route("rerank", Question(RERANK.path, {"model": model, "query": "a", "documents": ["a"]})),
        _error_shape(model),
    ):  # fmt: skip
        found.append((yield from probing))
    return found


def lacks_model(model: str) -> Generator[Question, Reply, bool]:
    """Whether the server refuses the model by its name; a 404 that does not name it is of a route that is not there."""
    reply = yield _chat(model, max_tokens=1)
    return reply.status == 404 and model in reply.body.decode(errors="replace")


def _chat(model: str, **more: Any) -> Question:
    body = {"model": model, "messages": _QUESTION, "temperature": 0, "max_tokens": 4}
    return Question(CHAT.path, {**body, **more})


def _completion(model: str, **more: Any) -> Question:
    body = {"model": model, "prompt": "Hello", "temperature": 0, "max_tokens": 1}
    return Question(COMPLETIONS.path, {**body, **more})


def _route(name: str, question: Question) -> Probing:
    reply = yield question
    return Feature(name, Can.YES if reply.status == 200 else Can.NO, _said(reply))


def _metrics() -> Probing:
    for path in ("/metrics", "/prometheus/metrics"):
        reply = yield Question(path)
        if reply.status == 200 and _SAMPLE.search(reply.body):
            return Feature("Prometheus metrics", Can.YES, path)
    said = "/metrics holds something else" if reply.status == 200 else _said(reply)
    return Feature("Prometheus metrics", Can.NO, said)


def _stream(model: str) -> Probing:
    name = "streams, with usage at the end"
    reply = yield _chat(model, stream=True, stream_options={"include_usage": True})
    if reply.status != 200 or b"data:" not in reply.body:
        return Feature(name, Can.NO, _said(reply))
    chunks = _chunks(reply)
    reason = any(choice.get("finish_reason") for chunk in chunks for choice in _choices(chunk))
    usage = any(chunk.get("usage") for chunk in chunks)
    seen = [
        f"{'a' if reason else 'no'} finish_reason",
        "usage" if usage else "no usage",
        "[DONE]" if b"data: [DONE]" in reply.body else "no [DONE]",
    ]
    return Feature(name, Can.YES if reason and usage else Can.NO, ", ".join(seen))


def _continuous_usage(model: str) -> Probing:
    name = "streams, with usage in each event"
    options = {"include_usage": True, "continuous_usage_stats": True}
    reply = yield _chat(model, stream=True, stream_options=options)
    if reply.status != 200:
        return Feature(name, Can.NO, _said(reply))
    with_choices = [chunk for chunk in _chunks(reply) if _choices(chunk)]
    if with_choices and all(chunk.get("usage") for chunk in with_choices[:-1] or with_choices):
        return Feature(name, Can.YES, "continuous_usage_stats")
    return Feature(name, Can.NO, "continuous_usage_stats changes nothing")


def _log_probabilities(model: str) -> Probing:
    reply = yield _chat(model, max_tokens=1, logprobs=True, top_logprobs=1)
    has = any(choice.get("logprobs") for choice in _choices(reply.fields))
    without = reply.status == 200 and not has
    return Feature(
        "log-probabilities", Can.YES if has else Can.NO, "answers without them" if without else _said(reply)
    )


def _prefill(name: str, model: str, flags: dict[str, Any]) -> Probing:
    """Whether half an answer is continued; a server that begins anew has one more `One`."""
    reply = yield _chat(model, messages=[*_QUESTION, _PARTIAL], **flags)
    if reply.status != 200:
        return Feature(name, Can.NO, _said(reply))
    text = _text(reply).removeprefix(_PARTIAL["content"]).strip()
    shown = f"went on with {msgspec.json.encode(text[:30]).decode()}"
    if text.lower().startswith("seven"):
        return Feature(name, Can.YES, shown)
    return Feature(name, Can.NO if text.lower().startswith(("one", "1")) else Can.UNCLEAR, shown)


def _structured(model: str) -> Probing:
    schema = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    reply = yield _chat(model, max_tokens=16, response_format=wanted)
    name = "structured output (JSON schema)"
    if reply.status != 200:
        return Feature(name, Can.NO, _said(reply))
    # A small model may spend its tokens on white space: what came by then must be the beginning.
    came = "".join(_text(reply).split())
    fits = bool(came) and '{"n":7}'.startswith(came)
    shown = msgspec.json.encode(_text(reply)[:40]).decode()
    return Feature(name, Can.YES if fits else Can.NO, f"answered {shown}")


def _token_ids(model: str) -> Probing:
    reply = yield _completion(model, prompt=[1, 2, 3], return_token_ids=True)
    if reply.status != 200:
        return Feature("completions by token ids", Can.NO, _said(reply))
    tells = any(choice.get("token_ids") for choice in _choices(reply.fields))
    return Feature(
        "completions by token ids", Can.YES, "and tells the ids that it made" if tells else "but tells none"
    )


def _tokenize(model: str) -> Probing:
    for key in ("prompt", "content"):
        reply = yield Question(TOKENIZE.path, {"model": model, key: "Hello there"})
        tokens = reply.fields.get("tokens")
        if isinstance(tokens, list) and tokens:
            return Feature("tokenize", Can.YES, f"{TOKENIZE.path}, of '{key}'")
    return Feature("tokenize", Can.NO, _said(reply))


def _error_shape(model: str) -> Probing:
    name = "refuses what is wrong, as OpenAI does"
    reply = yield _chat(model, temperature="hot")
    try:
        error = msgspec.json.decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        error = None
    is_openai = (
        isinstance(error, dict) and isinstance(error.get("error"), dict) and "message" in error["error"]
    )
    good = 400 <= reply.status < 500 and is_openai
    shape = "OpenAI's shape" if is_openai else "another shape"
    return Feature(name, Can.YES if good else Can.NO, f"{reply.status or 'no answer'}, {shape}")


def _chunks(reply: Reply) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in reply.body.splitlines():
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            try:
                chunk = msgspec.json.decode(line[5:])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            if isinstance(chunk, dict):
                found.append(chunk)
    return found


def _choices(fields: dict[str, Any]) -> list[dict[str, Any]]:
    choices = fields.get("choices")
    return [each for each in choices if isinstance(each, dict)] if isinstance(choices, list) else []


def _text(reply: Reply) -> str:
    for choice in _choices(reply.fields):
        message = choice.get("message")
        if isinstance(message, dict):
            return str(message.get("content") or "")
    return ""


def _said(reply: Reply) -> str:
    """Status, and of an error the first words."""
    if reply.status == 200:
        return "answers"
    words = " ".join(reply.body.decode(errors="replace").split())
    return f"{reply.status}: {words[:_SHOWN_MAX]}" if reply.status else words[:_SHOWN_MAX]


def ask_all(asking: Generator[Question, Reply, Any], ask: Callable[[Question], Reply]) -> Any:
    """Carries questions to `ask` until the asking comes to its result."""
    try:
        question = next(asking)
        while True:
            question = asking.send(ask(question))
    except StopIteration as over:
        return over.value
