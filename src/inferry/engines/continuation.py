"""How each engine is asked to go on with a partial answer, after the replica that began it has failed. Pure.

What is continued is the text that the client has. The engine tokenizes it anew, so at temperature 0 the rest is that
of the undisturbed answer wherever the text ends where a token did; random answers go on with other dice. Where events
were counted for tokens and an engine put several into one (vLLM does when it is behind), the whole gets longer by those.

An answer is refused where going on would change what the request means: tool calls and structured output (a grammar
starts at its beginning again), several choices, log-probabilities, penalties that count only generated tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from inferry.core.request import LENGTH_FIELDS

Body = Mapping[str, Any]


class ChatStyle(StrEnum):
    """What a chat needs behind its messages so that the last one is continued."""

    NONE = "none"
    TRAILING = "trailing"
    """An assistant message at the end is enough."""
    FLAG = "flag"
    """`continue_final_message`; without it, the partial answer is read as the user's."""
    TWO_FLAGS = "two_flags"
    """`continue_final_message`, and `add_generation_prompt: false`."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What one engine can do."""

    chat: ChatStyle
    completions: bool
    """It takes `prompt` as it is, without a template around it: prompt and text so far, then."""
    why_not: str = ""
    """In words, where one of them is missing."""
    token_ids: bool = False
    """It tells the ids of prompt and answer (`return_token_ids`), and takes a prompt of ids."""
    trims: bool = False
    """White space at the end of the text is cut off, so the rest may begin with it."""

    @property
    def level(self) -> str:
        """`text`: chats and completions; `completions`: only those; `none`."""
        if self.chat is not ChatStyle.NONE:
            return "text"
        return "completions" if self.completions else "none"


@dataclass(frozen=True, slots=True)
class Continued:
    """What to send, and the beginning of the answer that the client has already, if it comes again."""

    body: dict[str, Any]
    may_repeat: str = ""


@dataclass(frozen=True, slots=True)
class NotContinued:
    because: str
    """In words that an operator can read."""


NOWHERE = Continuation(ChatStyle.NONE, False, "nothing is known of how it continues an answer")
_VLLM = Continuation(ChatStyle.TWO_FLAGS, True, token_ids=True, trims=True)

# Read from the engines' sources: vLLM 0.32 entrypoints/openai (the chat template's renderer may cut white space),
# SGLang 0.5.23 entrypoints/openai/serving_chat.py, TGI 3.3 router/src/infer/chat_template.rs, TensorRT-LLM 1.2
# serve/openai_protocol.py, transformers 5 cli/serving/chat_completion.py, Ollama 0.33 server/routes.go. llama.cpp was
# asked: the server in xllamacpp 2026.10.
_BY_ENGINE = {
    "vllm": _VLLM,
    "simulated": _VLLM,
    "sglang": Continuation(ChatStyle.FLAG, True),
    "llamacpp": Continuation(ChatStyle.TRAILING, True),
    "tgi": Continuation(ChatStyle.TRAILING, True, trims=True),
    "tensorrt-llm": Continuation(ChatStyle.NONE, True, "it always begins a new message in chats"),
    "transformers": Continuation(ChatStyle.NONE, True, "it always begins a new message in chats"),
    "ollama": Continuation(
        ChatStyle.NONE, False, "whether a partial answer is continued depends on the model's template"
    ),
}


def continuation_of(engine: str) -> Continuation:
    """By the engine's name in the deployment file. Remote endpoints may be anything: nowhere."""
    return _BY_ENGINE.get(engine, NOWHERE)


def continue_chat(
    continuation: Continuation, body: Body, delivered_text: str, delivered_tokens: int
) -> Continued | NotContinued:
    """The chat request that makes the engine go on behind `delivered_text`, all of which is plain content: an answer
    that has begun with reasoning or a tool call must not come here."""
    if continuation.chat is ChatStyle.NONE:
        return NotContinued(continuation.why_not)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        return NotContinued("its messages are odd")
    rest = _rest(body, delivered_tokens)
    if isinstance(rest, NotContinued):
        return rest
    rest["messages"] = _with_partial(messages, body, continuation.chat, delivered_text)
    if rest["messages"] is None:
        return NotContinued("its last message is a partial answer in parts that are no plain text")
    if continuation.chat is not ChatStyle.TRAILING:
        rest["continue_final_message"] = True
    if continuation.chat is ChatStyle.TWO_FLAGS:
        rest["add_generation_prompt"] = False
    return Continued(rest, _trimmed_off(delivered_text) if continuation.trims else "")


def continue_completion(
    continuation: Continuation, body: Body, delivered_text: str, delivered_tokens: int
) -> Continued | NotContinued:
    """The same of a text completion."""
    if not continuation.completions:
        return NotContinued(continuation.why_not)
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        return NotContinued("its prompt is not one text")
    for field in ("echo", "suffix"):
        if body.get(field):
            return NotContinued(f"'{field}' puts other text around the answer")
    rest = _rest(body, delivered_tokens)
    if isinstance(rest, NotContinued):
        return rest
    rest["prompt"] = prompt + delivered_text
    return Continued(rest)


def _is_set(value: Any) -> bool:
    return bool(value)


def _is_several(value: Any) -> bool:
    return value not in (None, 1)


def _is_structured(value: Any) -> bool:
    return bool(value) and not (isinstance(value, dict) and value.get("type") == "text")


_STRUCTURED = "structured output can't begin in the middle"
_REFUSED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("n", _is_several, "it asks for several choices"),
    ("best_of", _is_several, "it asks for several choices"),
    ("use_beam_search", _is_set, "beam search keeps more than the text that was sent"),
    ("logprobs", lambda value: value is not None and value is not False, "log-probabilities are asked for"),
    ("top_logprobs", _is_set, "log-probabilities are asked for"),
    ("prompt_logprobs", lambda value: value is not None, "log-probabilities are asked for"),
    ("response_format", _is_structured, _STRUCTURED),
    *((name, _is_set, _STRUCTURED) for name in (
        "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar",
        "json_schema", "regex", "ebnf",
    )),
    ("frequency_penalty", _is_set, "'frequency_penalty' counts generated tokens, and those so far would be prompt"),
    ("presence_penalty", _is_set, "'presence_penalty' counts generated tokens, and those so far would be prompt"),
    ("return_token_ids", _is_set, "token ids are asked for"),
)  # fmt: skip


def _rest(body: Body, delivered_tokens: int) -> dict[str, Any] | NotContinued:
    """The request with what is left of its lengths, or why it can't be continued."""
    for name, changes, because in _REFUSED:
        if changes(body.get(name)):
            return NotContinued(because)
    for name in ("tools", "functions"):
        if body.get(name) and "none" not in (body.get("tool_choice"), body.get("function_call")):
            return NotContinued("a tool call may be under way")
    rest = dict(body)
    for name in LENGTH_FIELDS:
        length = rest.get(name)
        if isinstance(length, int) and not isinstance(length, bool) and length > 0:
            if length <= delivered_tokens:
                return NotContinued(f"all of its {length} tokens are there")
            rest[name] = length - delivered_tokens
    least = rest.get("min_tokens")
    if isinstance(least, int) and least:
        rest["min_tokens"] = max(0, least - delivered_tokens)
    return rest


def _with_partial(
    messages: list[dict[str, Any]], body: Body, style: ChatStyle, delivered_text: str
) -> list[dict[str, Any]] | None:
    """None: the client's own partial answer is no plain text."""
    last = messages[-1]
    continues = style is ChatStyle.TRAILING or bool(body.get("continue_final_message"))
    if last.get("role") != "assistant" or not continues:
        return [*messages, {"role": "assistant", "content": delivered_text}]
    if not isinstance(last.get("content"), str):
        return None
    return [*messages[:-1], {**last, "content": last["content"] + delivered_text}]


def _trimmed_off(text: str) -> str:
    return text[len(text.rstrip()) :]
