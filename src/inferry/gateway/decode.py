"""Bytes of a request body in, a validated request out. Only what the gateway needs is looked at.

Everything else in the body is skipped by the decoder without building objects for it, and goes to the engine
byte for byte: engines differ in what they accept, and they check it themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from inferry.core.errors import InvalidRequest
from inferry.core.request import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    RERANK,
    RESPONSES,
    TOKENIZE,
    InferenceRequest,
    Route,
)

_Positive = Annotated[int, Meta(ge=1)] | None
_NotNegative = Annotated[int, Meta(ge=0)] | None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Head(msgspec.Struct):
    model: str
    stream: bool | None = None


class _Sampled(_Head):
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None


class _Message(msgspec.Struct):
    role: str


_Messages = Annotated[list[_Message], Meta(min_length=1)]


class _Chat(_Sampled, kw_only=True):
    messages: _Messages
    stream_options: _StreamOptions | UnsetType | None = UNSET
    max_tokens: _NotNegative = None
    max_completion_tokens: _NotNegative = None
    n: _Positive = None


class _Completions(_Sampled, kw_only=True):
    prompt: Raw
    stream_options: _StreamOptions | UnsetType | None = UNSET
    max_tokens: _NotNegative = None
    n: _Positive = None


class _Embeddings(_Head, kw_only=True):
    input: Raw


class _Responses(_Sampled, kw_only=True):
    input: Raw
    max_output_tokens: _NotNegative = None


class _AnthropicMessages(_Sampled, kw_only=True):
    messages: _Messages
    max_tokens: Annotated[int, Meta(ge=1)]


class _CountTokens(_Head, kw_only=True):
    messages: _Messages


class _Rerank(_Head, kw_only=True):
    query: Raw
    documents: list[Raw]


class _Tokenize(_Head, kw_only=True):
    content: Raw | UnsetType = UNSET  # llama.cpp
    prompt: Raw | UnsetType = UNSET  # vLLM: a text
    messages: Raw | UnsetType = UNSET  # vLLM: a chat


_DECODERS: dict[Route, Callable[[bytes], _Head]] = {
    route: msgspec.json.Decoder(kind).decode
    for route, kind in (
        (CHAT, _Chat),
        (COMPLETIONS, _Completions),
        (EMBEDDINGS, _Embeddings),
        (RESPONSES, _Responses),
        (MESSAGES, _AnthropicMessages),
        (COUNT_TOKENS, _CountTokens),
        (RERANK, _Rerank),
        (TOKENIZE, _Tokenize),
    )
}
_decode_fields = msgspec.json.Decoder(dict[str, Raw] | None).decode
_encode = msgspec.json.encode


def decode_request(route: Route, body: bytes, request_id: str, models: Iterable[str]) -> InferenceRequest:
    """The request in `body`; raises InvalidRequest that names the field, the value's type and the way out.

    `models` are the names to list when the request names none.
    """
    try:
        head = _DECODERS[route](body)
    except msgspec.ValidationError as error:
        raise _explain(str(error), body, models) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if not body.strip():
            raise InvalidRequest("The request has no body: send a JSON object.") from None
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply.") from None
    options = getattr(head, "stream_options", UNSET)
    stream = bool(head.stream)
    max_tokens: int | None = None
    for field in route.length_fields:
        if (given := getattr(head, field, None)) is not None:
            max_tokens = given
    if stream and not route.streams:
        raise InvalidRequest(f"{route.path} has no streaming: leave out 'stream'.", param="stream")
    if isinstance(head, _Tokenize) and head.content is head.prompt is head.messages is UNSET:
        # llama.cpp would answer an empty list, as if the text had no tokens.
        raise InvalidRequest(
            "Missing required parameter: 'content' (llama.cpp), or 'prompt' or 'messages' (vLLM and others).",
            param="content",
        )
    return InferenceRequest(
        id=request_id,
        route=route,
        model=head.model,
        stream=stream,
        client_wants_usage=isinstance(options, _StreamOptions) and options.include_usage is True,
        max_tokens=max_tokens,
        choices=getattr(head, "n", None) or 1,
        body=body,
    )


def body_for_engine(
    request: InferenceRequest, served_name: str, ask_usage: bool, length_max: int | None = None
) -> bytes:
    """The body as the engine shall get it: its own name for the model, and asked for usage if wished.

    `length_max`: bound the answer to so many tokens if the client did not bound it. When nothing has to change,
    this is the client's very bytes. Raises InvalidRequest.
    """
    add_usage = ask_usage and request.stream and request.route.asks_usage and not request.client_wants_usage
    add_length = length_max is not None and request.max_tokens is None and bool(request.route.length_fields)
    if request.model == served_name and not add_usage and not add_length:
        return request.body
    try:
        fields = _decode_fields(request.body) or {}
        options = (
            (_decode_fields(fields["stream_options"]) or {})
            if add_usage and "stream_options" in fields
            else {}
        )
    except UnicodeDecodeError as error:  # in a key that decode_request had no reason to look at
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    if request.model != served_name:
        fields["model"] = Raw(_encode(served_name))
    if add_length:
        fields[request.route.length_fields[0]] = Raw(_encode(length_max))
    if add_usage:
        fields["stream_options"] = Raw(_encode({**options, "include_usage": True}))
    return _encode(fields)


_PLACE = re.compile(r" - at `\$\.?(?P<at>[^`]*)`$")
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")
_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _explain(text: str, body: bytes, models: Iterable[str]) -> InvalidRequest:
    """msgspec's message in the API's words, with the parameter it is about."""
    place = _PLACE.search(text)
    at = place["at"] if place else ""
    text = _PLACE.sub("", text)
    if missing := _MISSING.match(text):
        name = f"{at}.{missing['name']}" if at else missing["name"]
        hint = f" Name one of: {', '.join(sorted(models))}." if name == "model" else ""
        return InvalidRequest(f"Missing required parameter: '{name}'.{hint}", param=name)
    words = re.sub(
        r"`([a-z |]+)`",
        lambda found: " or ".join(_WORDS.get(word, word) for word in found[1].split(" | ")),
        text,
    ).replace("`", "")
    if not at:
        return InvalidRequest(f"The request body must be a JSON object: {words[:1].lower()}{words[1:]}.")
    expected, _, kind = words.partition(", got ")
    shown = _shown(body, at) or kind or "something else"
    return InvalidRequest(
        f"Invalid value for '{at}': {expected[:1].lower()}{expected[1:]}, got {shown}.", param=at
    )


def _shown(body: bytes, at: str) -> str | None:
    """The value at `messages[0].role`, short enough for a message; None if the rest of the body hides it."""
    try:
        value: Any = msgspec.json.decode(body)
        for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", at):
            value = value[int(index)] if index else value[key]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        # The decoder stopped at the wrong value; what comes behind it need not even be JSON.
        return None
    text = _encode(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
