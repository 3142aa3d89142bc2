"""Ollama's chat messages as OpenAI's: images, tool calls and their results are written differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from inferry.core.errors import InvalidRequest


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
    images: list[str] | None = None
    """Base64."""
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None
    """Of a result: the tool's. Ollama knows no id of a call, or only since lately."""
    tool_call_id: str | None = None


def chat_messages(messages: Sequence[OllamaMessage]) -> list[dict[str, Any]]:
    """OpenAI's form. Calls without an id get one, and results are given to the calls in their order."""
    translated: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []
    """(id, tool) of calls without a result yet."""
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
            waiting = [(call_id, function.name) for call_id, function in calls]
            fields["tool_calls"] = [_call(call_id, function) for call_id, function in calls]
        if message.role == "tool":
            fields["tool_call_id"] = _call_of(message, waiting, f"messages[{index}]")
        translated.append(fields)
    return translated


def _call(call_id: str, function: OllamaFunction) -> dict[str, Any]:
    arguments = msgspec.json.encode(function.arguments or {}).decode()
    return {"id": call_id, "type": "function", "function": {"name": function.name, "arguments": arguments}}


def _call_of(message: OllamaMessage, waiting: list[tuple[str, str]], where: str) -> str:
    """The id of the call that this is the result of; takes it from those that wait."""
    if message.tool_call_id:
        return message.tool_call_id
    for call in waiting:
        if message.tool_name is None or message.tool_name == call[1]:
            waiting.remove(call)
            return call[0]
    raise InvalidRequest(
        f"'{where}' is a tool's result, but no call before it waits for one: send the assistant's message with its "
        "'tool_calls' first.",
        param=where,
    )


_MAGIC = (("iVBOR", "png"), ("/9j/", "jpeg"), ("R0lG", "gif"), ("UklG", "webp"))
"""How the formats begin, in base64."""


def user_content(text: str, images: Sequence[str] | None) -> str | list[dict[str, Any]]:
    """A message's content: the text, or parts of it if there are images (base64)."""
    if not images:
        return text
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    for image in images:
        kind = next((kind for magic, kind in _MAGIC if image.startswith(magic)), "jpeg")
        parts.append({"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}})
    return parts
