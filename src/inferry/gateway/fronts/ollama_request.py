"""Ollama's requests (/api/chat, /api/generate, /api/embed) in the words of the inner routes.

Built from Ollama 0.33's api/types.go and its documentation. How a model is loaded is the deployment file's affair
here, so that options about that are hints and ignored, as are those that Ollama itself no longer reads. What else
has no counterpart is refused by name.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from inferry.core.errors import InvalidRequest
from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS
from inferry.gateway.fronts.front import Asked, Models, Moments, Wakes
from inferry.gateway.fronts.ollama_answer import (
    ChatShape,
    EmbeddingWriter,
    GenerateShape,
    OllamaWriter,
    loaded,
)
from inferry.gateway.fronts.ollama_messages import Image, OllamaMessage, chat_messages, user_content
from inferry.gateway.fronts.outer_body import reader, refuse_others
from inferry.gateway.fronts.tgi_request import json_schema_fields, refuse_no_schema

Hint = Raw | UnsetType


class Options(msgspec.Struct, forbid_unknown_fields=True):
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: int | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    num_predict: int | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    # How to load a model: the deployment file says it here.
    num_ctx: Hint = UNSET
    num_batch: Hint = UNSET
    num_gpu: Hint = UNSET
    main_gpu: Hint = UNSET
    num_thread: Hint = UNSET
    num_keep: Hint = UNSET
    draft_num_predict: Hint = UNSET
    use_mmap: Hint = UNSET
    use_mlock: Hint = UNSET
    numa: Hint = UNSET
    low_vram: Hint = UNSET
    f16_kv: Hint = UNSET
    logits_all: Hint = UNSET
    vocab_only: Hint = UNSET
    embedding_only: Hint = UNSET
    # Of samplers that Ollama has given up.
    mirostat: Hint = UNSET
    mirostat_tau: Hint = UNSET
    mirostat_eta: Hint = UNSET
    tfs_z: Hint = UNSET
    penalize_newline: Hint = UNSET
    # Refused unless it asks for nothing:
    typical_p: float | None = None


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    model: Annotated[str, Meta(min_length=1)]
    options: Options | None = None
    keep_alive: Hint = UNSET
    """How long Ollama keeps the model loaded; replicas stay as long as the file wants them."""


class _Generating(_Request, kw_only=True):
    stream: bool | None = None
    """Left out, it is true."""
    format: str | dict[str, Any] | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    # Whether Ollama cuts what is too long; engines do as they do.
    truncate: Hint = UNSET
    shift: Hint = UNSET


class ChatRequest(_Generating, kw_only=True):
    messages: list[OllamaMessage] | None = None
    tools: list[dict[str, Any]] | None = None


class GenerateRequest(_Generating, kw_only=True):
    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    images: list[Image] | None = None
    # Refused unless they ask for nothing:
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None


class EmbedRequest(_Request, kw_only=True):
    input: str | list[str]
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    truncate: bool | None = None
    """A hint: what is too long, engines refuse or cut as they do."""


REFUSED: dict[str, tuple[tuple[object, ...], str]] = {
    "logprobs": ((False,), "ask /v1/chat/completions with 'logprobs' instead."),
    "top_logprobs": ((0,), "ask /v1/chat/completions with 'logprobs' instead."),
    "suffix": (
        ("",),
        "few engines fill in the middle. Put what the model's own format needs into 'prompt' with 'raw'.",
    ),
    "template": (("",), "the model's own template is used. Send a finished prompt with 'raw'."),
    "context": (([],), "it is deprecated in Ollama. Use /api/chat with 'messages'."),
}
"""Name: (values that ask for nothing, why it is refused)."""
REFUSED_OPTIONS: dict[str, tuple[tuple[object, ...], str]] = {
    "typical_p": ((1.0,), "few engines know typical sampling. Use top_p."),
}

_read_chat = reader(ChatRequest, {"options": Options, "messages[...]": OllamaMessage})
_read_generate = reader(GenerateRequest, {"options": Options})
_read_embed = reader(EmbedRequest, {"options": Options})
_encode = msgspec.json.encode


def chat(body: bytes, models: Models, moments: Moments) -> Asked | Wakes:
    """POST /api/chat."""
    request = _read_chat(body, models)
    fields = _fields(request, models) | _format(request)
    if not request.messages:
        return Wakes(CHAT, models.known(request.model), loaded(ChatShape(), request.model, moments))
    fields["messages"] = chat_messages(request.messages)
    if request.tools:
        fields["tools"] = request.tools
    writer = OllamaWriter(ChatShape(), request.model, moments, stream=request.stream is not False)
    return Asked(CHAT, _encode(fields), writer)


def generate(body: bytes, models: Models, moments: Moments) -> Asked | Wakes:
    """POST /api/generate: `raw` is a text completion, all else a chat of one question, as in Ollama."""
    request = _read_generate(body, models)
    fields, form = _fields(request, models), _format(request)
    if not request.prompt:
        return Wakes(CHAT, models.known(request.model), loaded(GenerateShape(), request.model, moments))
    writer = OllamaWriter(GenerateShape(), request.model, moments, stream=request.stream is not False)
    if request.raw:
        refuse_others(request.images, "images", ([],), "a raw prompt has no place for them.")
        refuse_others(request.system, "system", ("",), "a raw prompt is sent as it is.")
        # null is "as many as fit"; left out would be 16 tokens at some engines.
        fields = {"max_tokens": None} | fields | {"prompt": request.prompt} | _raw_format(request)
        return Asked(COMPLETIONS, _encode(fields), writer)
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": user_content(request.prompt, request.images)}
    ]
    if request.system:
        messages.insert(0, {"role": "system", "content": request.system})
    return Asked(CHAT, _encode(fields | {"messages": messages} | form), writer)


def embed(body: bytes, models: Models, moments: Moments) -> Asked:
    """POST /api/embed."""
    request = _read_embed(body, models)
    fields: dict[str, Any] = {"model": models.known(request.model), "input": request.input}
    if request.dimensions is not None:
        fields["dimensions"] = request.dimensions
    return Asked(EMBEDDINGS, _encode(fields), EmbeddingWriter(request.model, moments))


def _fields(request: _Generating, models: Models) -> dict[str, Any]:
    for name, (neutral, why) in REFUSED.items():
        refuse_others(getattr(request, name, None), name, neutral, why)
    fields: dict[str, Any] = {"model": models.known(request.model)}
    if request.stream is not False:
        fields["stream"] = True
    if isinstance(request.think, bool):
        fields["chat_template_kwargs"] = {"enable_thinking": request.think}
    elif request.think:
        fields["reasoning_effort"] = request.think
    return fields | _options(request.options or Options())


def _options(options: Options) -> dict[str, Any]:
    for name, (neutral, why) in REFUSED_OPTIONS.items():
        refuse_others(getattr(options, name), f"options.{name}", neutral, why)
    fields: dict[str, Any] = {}
    same = (
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "repeat_last_n",
    )
    for name in same:
        if (value := getattr(options, name)) is not None:
            fields[name] = value
    if options.stop:
        fields["stop"] = options.stop
    if options.repeat_penalty is not None:
        # llama.cpp's name, and vLLM's and SGLang's; each reads its own.
        fields["repeat_penalty"] = fields["repetition_penalty"] = options.repeat_penalty
    if (
        options.num_predict is not None and options.num_predict > 0
    ):  # others mean "no end" or "as many as fit"
        fields["max_tokens"] = options.num_predict
    return fields


def _format(request: _Generating) -> dict[str, Any]:
    schema = request.format
    if schema is None or schema == "":
        return {}
    if schema == "json":
        return {"response_format": {"type": "json_object"}}
    if isinstance(schema, str):
        raise InvalidRequest(
            "Invalid value for 'format': expected 'json' or a JSON schema as an object.", param="format"
        )
    refuse_no_schema(schema, "format")
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": True},
        }
    }


def _raw_format(request: _Generating) -> dict[str, Any]:
    if not _format(request):
        return {}
    return json_schema_fields(request.format if isinstance(request.format, dict) else {"type": "object"})
