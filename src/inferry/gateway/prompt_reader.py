"""What of a request's body makes its prompt: messages and tools, a text, or token ids; or why that can't be said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from inferry.core.request import CHAT, COMPLETIONS, MESSAGES, RESPONSES, Route

PROMPT_ROUTES = frozenset((CHAT, COMPLETIONS, MESSAGES, RESPONSES))


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """More names for the template."""
    add_generation_prompt: bool = True

    @property
    def has_tools(self) -> bool:
        """Tools, or calls of some."""
        return bool(self.tools) or any(message.get("tool_calls") for message in self.messages)


@dataclass(frozen=True, slots=True)
class TextPrompts:
    """Completions: texts to tokenize, and ids that the client made itself."""

    texts: list[str]
    ids: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """The prompt is one that can't be counted from outside."""

    because: str


def read_prompt(route: Route, body: bytes) -> ChatPrompt | TextPrompts | Skipped:
    """The prompt in a body that the gateway has already found valid; never raises for one that is not."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Skipped("not JSON")
    if not isinstance(fields, dict):
        return Skipped("not JSON")
    try:
        if route is COMPLETIONS:
            return _completions(fields)
        if route is CHAT:
            return _chat(fields)
        if route is MESSAGES:
            return _anthropic(fields)
        if route is RESPONSES:
            return _responses(fields)
    except _CanNotCount as reason:
        return Skipped(str(reason))
    return Skipped("no prompt here")


class _CanNotCount(Exception):
    pass


def _completions(fields: dict[str, Any]) -> TextPrompts:
    prompt = fields.get("prompt")
    if fields.get("suffix"):
        raise _CanNotCount("a suffix")
    if isinstance(prompt, str):
        return TextPrompts([prompt])
    if not isinstance(prompt, list) or not prompt:
        raise _CanNotCount("no prompt")
    if all(isinstance(each, int) for each in prompt):
        return TextPrompts([], len(prompt))
    if len(prompt) == 1 and isinstance(prompt[0], str):
        return TextPrompts([prompt[0]])
    raise _CanNotCount("several prompts")  # engines differ in how they count them


def _chat(fields: dict[str, Any]) -> ChatPrompt:
    for name in ("chat_template", "continue_final_message", "documents", "functions", "mm_processor_kwargs"):
        if fields.get(name):
            raise _CanNotCount(name)
    tools = fields.get("tools") or None
    if tools is not None and fields.get("tool_choice") not in (None, "auto"):
        raise _CanNotCount("tool_choice")  # engines differ in whether they then show the tools
    messages = [_message(each) for each in _list(fields.get("messages"))]
    if not messages or messages[-1].get("role") == "assistant":
        raise _CanNotCount("an answer to continue")
    extra = fields.get("chat_template_kwargs")
    return ChatPrompt(
        messages,
        tools,
        extra if isinstance(extra, dict) else {},
        fields.get("add_generation_prompt") is not False,
    )


def _message(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _CanNotCount("a message of an unknown kind")
    message: dict[str, Any] = dict(given)
    content = message.get("content")
    if content is None:
        message["content"] = ""
    elif isinstance(content, list):
        message["content"] = [{"type": "text", "text": _text_of(part)} for part in content]
    elif not isinstance(content, str):
        raise _CanNotCount("a message of an unknown kind")
    if calls := message.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in _list(calls)]
    return message


def _call(call: Any) -> Any:
    """Templates want a call's arguments as an object; the API has them as its text."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(arguments := function.get("arguments"), str):
        return call
    try:
        return {**call, "function": {**function, "arguments": msgspec.json.decode(arguments or "{}")}}
    except (msgspec.MsgspecError, RecursionError):
        raise _CanNotCount("tool arguments that are not JSON") from None


def _anthropic(fields: dict[str, Any]) -> ChatPrompt:
    if fields.get("tools"):
        raise _CanNotCount("tools")  # engines translate them, each in its own way
    messages: list[dict[str, Any]] = []
    if system := fields.get("system"):
        messages.append({"role": "system", "content": system})
    messages += _list(fields.get("messages"))
    return _chat({"messages": messages})


def _responses(fields: dict[str, Any]) -> ChatPrompt:
    for name in ("tools", "previous_response_id", "conversation", "prompt"):
        if fields.get(name):
            raise _CanNotCount(name)
    messages: list[Any] = []
    if instructions := fields.get("instructions"):
        messages.append({"role": "system", "content": instructions})
    given = fields.get("input")
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else _list(given):
        if not isinstance(item, dict) or item.get("type", "message") != "message":
            raise _CanNotCount("an input that is no message")
        messages.append({"role": item.get("role"), "content": item.get("content")})
    return _chat({"messages": messages})


def _text_of(part: Any) -> str:
    if isinstance(part, dict) and part.get("type") in ("text", "input_text"):
        text = part.get("text")
        if isinstance(text, str):
            return text
    raise _CanNotCount("a part that is no text")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _CanNotCount("no messages")
    return value
