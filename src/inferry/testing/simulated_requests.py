"""Request bodies of the generating routes, checked as vLLM checks them, into one record: Ask."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass
from typing import Any

import msgspec

from inferry.testing.simulated_model import Limits
from inferry.testing.simulated_words import BEGIN_ROLE, END_OF_MESSAGE, TokenTable

CHOICES_MAX = 8


class BadRequest(Exception):
    """A request that is refused, with the parts of vLLM's error object."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, kind: str = "BadRequestError"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be generated, whichever route it came by."""

    prompts: tuple[array[int], ...]
    limits: Limits
    stream: bool = False
    n: int = 1
    seed: int | None = None
    """None: the engine's own."""
    include_usage: bool = False
    continuous_usage: bool = False
    return_token_ids: bool = False
    echo: tuple[str, ...] = ()
    """Texts of the prompts, where the answer shall begin with them."""


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; raises BadRequest."""
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequest(f"Invalid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("Input should be a valid dictionary")
    return value


class RequestReader:
    """Turns bodies into Asks, for one model with one context length."""

    def __init__(self, served_name: str, context_tokens: int, table: TokenTable) -> None:
        self._served_name = served_name
        self._context_tokens = context_tokens
        self._table = table

    def check_model(self, body: dict[str, Any]) -> None:
        model = body.get("model")
        if model is not None and model != self._served_name:
            raise BadRequest(
                f"The model `{model}` does not exist.", status=404, param="model", kind="NotFoundError"
            )

    def chat(self, body: dict[str, Any]) -> Ask:
        prompt = self.chat_prompt(body)
        limit = _whole(body, "max_completion_tokens", 1)
        if limit is None:
            limit = _whole(body, "max_tokens", 1)
        return self._ask(body, (prompt,), limit)

    def chat_prompt(self, body: dict[str, Any]) -> array[int]:
        """The ids of a conversation, as a chat template would lay it out."""
        messages = _list_of_objects(body, "messages")
        continues = _flag(body, "continue_final_message", False)
        opens = _flag(body, "add_generation_prompt", True)
        if continues and opens:
            raise BadRequest(
                "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
                param="continue_final_message",
            )
        if continues and messages[-1].get("role") != "assistant":
            raise BadRequest("continue_final_message needs a final message of the role assistant.")
        ids = array("I")
        if body.get("tools"):
            self._add_message(ids, "system", json.dumps(body["tools"], sort_keys=True))
        for message in messages:
            text = _content_text(message)
            if message.get("tool_calls"):
                text += json.dumps(message["tool_calls"], sort_keys=True)
            self._add_message(ids, message.get("role"), text)
        if continues:
            ids.pop()
        elif opens:
            ids.append(BEGIN_ROLE["assistant"])
        return ids

    def completion(self, body: dict[str, Any]) -> Ask:
        prompts = tuple(self.prompts(body.get("prompt"), "prompt"))
        echo = tuple(map(self._table.decode, prompts)) if _flag(body, "echo", False) else ()
        # 16 is vLLM's default on this route, and OpenAI's.
        limit = _whole(body, "max_tokens", 1)
        return self._ask(body, prompts, 16 if limit is None else limit, echo)

    def responses(self, body: dict[str, Any]) -> Ask:
        wanted = body.get("input")
        if isinstance(wanted, str):
            messages: list[dict[str, Any]] = [{"role": "user", "content": wanted}]
        else:
            messages = [item for item in _list_of_objects(body, "input") if "role" in item]
        ids = array("I")
        if isinstance(body.get("instructions"), str):
            self._add_message(ids, "system", body["instructions"])
        for message in messages:
            self._add_message(ids, message["role"], _content_text(message))
        ids.append(BEGIN_ROLE["assistant"])
        return self._ask(body, (ids,), _whole(body, "max_output_tokens", 1))

    def messages(self, body: dict[str, Any]) -> Ask:
        limit = _whole(body, "max_tokens", 1)
        if limit is None:
            raise BadRequest("max_tokens: Field required", param="max_tokens")
        return self._ask(body | {"stop": body.get("stop_sequences")}, (self.messages_prompt(body),), limit)

    def messages_prompt(self, body: dict[str, Any]) -> array[int]:
        messages = _list_of_objects(body, "messages")
        ids = array("I")
        if body.get("system"):
            self._add_message(ids, "system", _content_text({"content": body["system"]}))
        for message in messages:
            self._add_message(ids, message.get("role"), _content_text(message))
        if messages[-1].get("role") == "assistant":
            ids.pop()  # Anthropic's meaning of a final assistant message: go on from here
        else:
            ids.append(BEGIN_ROLE["assistant"])
        return ids

    def _add_message(self, ids: array[int], role: object, text: str) -> None:
        if not isinstance(role, str) or role not in BEGIN_ROLE:
            raise BadRequest(f"Unexpected message role: {role!r}", param="messages")
        ids.append(BEGIN_ROLE[role])
        ids.extend(self._table.encode(text))
        ids.append(END_OF_MESSAGE)

    def prompts(self, wanted: object, param: str) -> list[array[int]]:
        """The ids of one or several texts, or of lists of ids, as `param` gives them."""
        many = wanted if isinstance(wanted, list) and not _is_ids(wanted) else [wanted]
        prompts: list[array[int]] = []
        for one in many:
            if isinstance(one, str):
                prompts.append(self._table.encode(one))
            elif isinstance(one, list) and one and _is_ids(one):
                prompts.append(array("I", one))
            else:
                raise BadRequest(f"{param} must be a string, token ids, or a list of either", param=param)
        if not prompts:
            raise BadRequest(f"Please provide at least one {param}", param=param)
        return prompts

    def _ask(
        self,
        body: dict[str, Any],
        prompts: tuple[array[int], ...],
        max_tokens: int | None,
        echo: tuple[str, ...] = (),
    ) -> Ask:
        self.check_model(body)
        stream = _flag(body, "stream", False)
        options = body.get("stream_options") or {}
        if not isinstance(options, dict):
            raise BadRequest("stream_options: Input should be a valid dictionary", param="stream_options")
        if options and not stream:
            raise BadRequest("Stream options can only be defined when `stream=True`.", param="stream_options")
        n = _whole(body, "n", 1) or 1
        if n > CHOICES_MAX:
            raise BadRequest(f"n must be at most {CHOICES_MAX}, got {n}.", param="n")
        stop = body.get("stop")
        stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
        if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
            raise BadRequest("stop must be a string or a list of strings, none of them empty", param="stop")
        include_usage = bool(options.get("include_usage"))
        return Ask(
            prompts=prompts,
            limits=Limits(
                max_tokens=min(self._room(prompt, max_tokens) for prompt in prompts),
                min_tokens=_whole(body, "min_tokens", 0) or 0,
                ignore_eos=_flag(body, "ignore_eos", False),
                stop=tuple(stops),
                include_stop=_flag(body, "include_stop_str_in_output", False),
            ),
            stream=stream,
            n=n,
            seed=_whole(body, "seed", -(2**63)),
            include_usage=include_usage,
            continuous_usage=include_usage and bool(options.get("continuous_usage_stats")),
            return_token_ids=_flag(body, "return_token_ids", False),
            echo=echo,
        )

    def _room(self, prompt: array[int], max_tokens: int | None) -> int:
        """How many tokens may follow; raises BadRequest in vLLM's words when there is no room."""
        wanted = 1 if max_tokens is None else max_tokens
        total = len(prompt) + wanted
        if total > self._context_tokens:
            raise BadRequest(
                f"This model's maximum context length is {self._context_tokens} tokens. However, you requested "
                f"{wanted} output tokens and your prompt contains {len(prompt)} input tokens, for a total of "
                f"{total} tokens. Please reduce the length of the input prompt or the number of requested "
                "output tokens.",
                param="input_tokens",
            )
        return self._context_tokens - len(prompt) if max_tokens is None else max_tokens


def _is_ids(value: list[Any]) -> bool:
    return bool(value) and all(type(item) is int and 0 <= item < 2**32 for item in value)


def _flag(body: dict[str, Any], name: str, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"{name}: Input should be a valid boolean", param=name)
    return value


def _whole(body: dict[str, Any], name: str, least: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int:
        raise BadRequest(f"{name}: Input should be a valid integer", param=name)
    if value < least or value >= 2**63:
        raise BadRequest(f"{name} must be at least {least}, got {value}.", param=name)
    return value


def _list_of_objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = body.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise BadRequest(f"{name}: Field required, as a list of objects", param=name)
    return value


def _content_text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRequest("content must be a string or a list of parts", param="messages")
    texts: list[str] = []
    for part in content:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict) and part.get("type") in ("tool_use", "tool_result"):
            texts.append(json.dumps(part, sort_keys=True))
        else:
            raise BadRequest("This engine is simulated and takes text only.", param="messages")
    return "\n".join(texts)
