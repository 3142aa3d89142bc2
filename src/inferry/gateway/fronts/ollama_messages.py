"""Ollama's chat messages as OpenAI's: images, tool calls and their results are written differently."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from inferry.core.errors import InvalidRequest

MESSAGES_MAX = 10_000
CALLS_MAX = 10_000
IMAGES_MAX = 1_000
"""In a request, far above any real one: what is small in JSON is large when it is translated, and takes its time."""

Image = Annotated[str, Meta(min_length=24)]
"""Base64. No file of an image is as short; a million letters that stand for images would fill the memory."""


class OllamaFunction(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    arguments: dict[str, Any] | None = None
    index: int | None = None
    description: str | None = None


class OllamaCall(msgspec.Struct, forbid_unknown_fields=True):
    function: OllamaFunction
    id: str | None = None
    type: str | None = None


class OllamaMessage(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[Image] | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None
    """Of a result: the tool's. Ollama knows no id of a call, or only since lately."""
    tool_call_id: str | None = None


def chat_messages(messages: Sequence[OllamaMessage]) -> list[dict[str, Any]]:
    """OpenAI's form. Calls without an id get one, and results are given to the calls in their order.

    Raises InvalidRequest.
    """
    _refuse_more(len(messages), MESSAGES_MAX, "messages")
    _refuse_more(sum(len(each.tool_calls or ()) for each in messages), CALLS_MAX, "tool_calls")
    _refuse_more(sum(len(each.images or ()) for each in messages), IMAGES_MAX, "images")
    translated: list[dict[str, Any]] = []
    waiting = _Waiting(())
    for index, message in enumerate(messages):
        fields: dict[str, Any] = {
            "role": message.role,
            "content": user_content(message.content or "", message.images),
        }
        if message.thinking:
            fields["reasoning_content"] = message.thinking
        if message.tool_calls:
            calls = [
                (call.id or f"call_{index}_{number}", call.function)
                for number, call in enumerate(message.tool_calls)
            ]
            waiting = _Waiting([(call_id, function.name) for call_id, function in calls])
            fields["tool_calls"] = [_call(call_id, function) for call_id, function in calls]
        if message.role == "tool":
            fields["tool_call_id"] = _call_of(message, waiting, f"messages[{index}]")
        translated.append(fields)
    return translated


def _call(call_id: str, function: OllamaFunction) -> dict[str, Any]:
    arguments = msgspec.json.encode(function.arguments or {}).decode()
    return {"id": call_id, "type": "function", "function": {"name": function.name, "arguments": arguments}}


class _Waiting:
    """Calls without a result yet, in their order: all, and each tool's."""

    def __init__(self, calls: Sequence[tuple[str, str]]) -> None:
        """(id, tool) of each."""
        self._all: deque[tuple[int, str]] = deque()
        self._of_tool: dict[str, deque[tuple[int, str]]] = {}
        self._taken: set[int] = set()
        """By one of the two ways, and maybe still in the other one's queue."""
        for number, (call_id, tool) in enumerate(calls):
            self._all.append((number, call_id))
            self._of_tool.setdefault(tool, deque()).append((number, call_id))

    def take(self, tool: str | None) -> str | None:
        """The id of the first one, or of this tool's first one; None if there is none."""
        queue = self._all if tool is None else self._of_tool.get(tool)
        while queue:
            number, call_id = queue.popleft()
            if number not in self._taken:
                self._taken.add(number)
                return call_id
        return None


def _call_of(message: OllamaMessage, waiting: _Waiting, where: str) -> str:
    """The id of the call that this is the result of; takes it from those that wait."""
    if message.tool_call_id:
        return message.tool_call_id
    if (call_id := waiting.take(message.tool_name)) is not None:
        return call_id
    raise InvalidRequest(
        f"'{where}' is a tool's result, but no call before it waits for one: send the assistant's message with its "
        "'tool_calls' first.",
        param=where,
    )


_MAGIC = (("iVBOR", "png"), ("/9j/", "jpeg"), ("R0lG", "gif"), ("UklG", "webp"))
"""How the formats begin, in base64."""


def user_content(text: str, images: Sequence[str] | None) -> str | list[dict[str, Any]]:
    """A message's content: the text, or parts of it if there are images (base64). Raises InvalidRequest."""
    if not images:
        return text
    _refuse_more(len(images), IMAGES_MAX, "images")
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for image in images:
        kind = next((kind for magic, kind in _MAGIC if image.startswith(magic)), "jpeg")
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}})
    return parts


def _refuse_more(count: int, most: int, name: str) -> None:
    if count > most:
        raise InvalidRequest(
            f"Too many '{name}': {count:,}, and the limit is {most:,} in a request. Send fewer.", param=name
        )
