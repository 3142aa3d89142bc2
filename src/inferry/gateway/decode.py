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
    LENGTH_FIELDS,
    MESSAGES,
    RERANK,
    RESPONSES,
    TOKENIZE,
    InferenceRequest,
    Route,
)
from inferry.gateway.tokenize_body import with_text_in

_Positive = Annotated[int, Meta(ge=1)] | None
_NotNegative = Annotated[int, Meta(ge=0)] | None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Head(msgspec.Struct):
    model: str
    stream: bool | None = None


class _Sampled(_Head):
    """Of all that an engine may go by, not only what the route's own document names: a cap that one field escapes
    is none."""

    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: _NotNegative = None
    max_completion_tokens: _NotNegative = None
    max_output_tokens: _NotNegative = None
    n_predict: int | None = None  # llama.cpp: less than 0 means without end
    max_new_tokens: int | None = None
    num_predict: int | None = None
    n: _Positive = None
    n_cmpl: int | None = None  # llama.cpp's `n`
    best_of: int | None = None


class _Message(msgspec.Struct):
    role: str


_Messages = Annotated[list[_Message], Meta(min_length=1)]


class _Chat(_Sampled, kw_only=True):
    messages: _Messages
    stream_options: _StreamOptions | UnsetType | None = UNSET


class _Completions(_Sampled, kw_only=True):
    prompt: Raw
    stream_options: _StreamOptions | UnsetType | None = UNSET


class _Embeddings(_Head, kw_only=True):
    input: Raw


class _Responses(_Sampled, kw_only=True):
    input: Raw


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
_decode_items = msgspec.json.Decoder(list[Raw]).decode
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
    max_tokens, max_tokens_param = _length(head) if isinstance(head, _Sampled) else _NO_LENGTH
    choices, choices_param = _choices(head) if isinstance(head, _Sampled) else _ONE_CHOICE
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
        choices=choices,
        body=body,
        max_tokens_param=max_tokens_param,
        choices_param=choices_param,
    )


_NO_LENGTH: tuple[int | None, str] = (None, "max_tokens")
_ONE_CHOICE = (1, "n")


def _length(head: _Sampled) -> tuple[int | None, str]:
    """(the longest answer that the client asks for, by which field).

    A 0 beside another number counts for nothing, as for engines that take it for "not given"; less than 0 is
    llama.cpp's "without end", so no length either.
    """
    given = head.max_tokens
    if (
        head.max_completion_tokens is None
        and head.max_output_tokens is None
        and head.n_predict is None
        and head.max_new_tokens is None
        and head.num_predict is None
    ):
        return _NO_LENGTH if given is None else (given, "max_tokens")
    lengths = {name: length for name in LENGTH_FIELDS if (length := getattr(head, name)) is not None}
    if min(lengths.values()) < 0:
        return _NO_LENGTH
    longest = max(lengths, key=lengths.__getitem__)
    return lengths[longest], longest


def _choices(head: _Sampled) -> tuple[int, str]:
    """(how many answers, the field that is most to blame)."""
    found = _ONE_CHOICE if head.n is None else (head.n, "n")
    if head.n_cmpl is not None and head.n_cmpl > found[0]:
        found = (head.n_cmpl, "n_cmpl")
    if head.best_of is not None and head.best_of > found[0]:
        found = (head.best_of, "best_of")
    if isinstance(head, _Completions) and (prompts := _prompts(head.prompt)) > 1:
        return found[0] * prompts, "prompt" if prompts > found[0] else found[1]
    return found


def _prompts(prompt: Raw) -> int:
    """How many: each text or list of a list is one, the token ids that stand in it directly are one together."""
    value = memoryview(prompt)
    if value[0] != ord("["):
        return 1
    inner = bytes(value[1:])
    if not any(sign in inner for sign in b'"[{'):
        return 1  # Token ids only: perhaps a hundred thousand, so not one by one.
    try:
        return max(1, sum(memoryview(item)[0] in b'"[{' for item in _decode_items(prompt)))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The request body is not valid JSON: {error}.", param="prompt") from None


def body_for_engine(
    request: InferenceRequest,
    served_name: str,
    ask_usage: bool,
    length_max: int | None = None,
    text_field: str | None = None,
) -> bytes:
    """The body as the engine shall get it: its own name for the model, and asked for usage if wished.

    `length_max`: bound the answer to so many tokens if the client did not bound it; a length of 0 becomes 1 then,
    since engines differ in whether 0 means none or no bound. `text_field`: where the engine's /tokenize reads the
    text. When nothing has to change, this is the client's very bytes. Raises InvalidRequest.
    """
    add_usage = ask_usage and request.stream and request.route.asks_usage and not request.client_wants_usage
    own_field = request.route.length_field
    add_length = length_max is not None and not request.max_tokens and own_field is not None
    body = request.body
    if text_field is not None and request.route is TOKENIZE:
        body = with_text_in(text_field, body)
    if request.model == served_name and not add_usage and not add_length:
        return body
    try:
        fields = _decode_fields(body) or {}
        options = (
            (_decode_fields(fields["stream_options"]) or {})
            if add_usage and "stream_options" in fields
            else {}
        )
    except UnicodeDecodeError as error:  # in a key that decode_request had no reason to look at
        raise InvalidRequest(f"The request body is not valid JSON: {error}.") from None
    except RecursionError:  # it could just be read where there was more room on the stack
        raise InvalidRequest("The request body is nested too deeply.") from None
    if request.model != served_name:
        fields["model"] = Raw(_encode(served_name))
    if add_length and own_field is not None:
        bound = Raw(_encode(length_max if request.max_tokens is None else 1))
        # Whatever stands there says null, 0 or "without end".
        fields.update({name: bound for name in LENGTH_FIELDS if name == own_field or name in fields})
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
