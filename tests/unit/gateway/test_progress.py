"""Tokens of answers that never came to their end."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES, Route
from inferry.gateway.progress import TokenEvents

WORDS = [
    "Hi",
    " the",
    ' "delta":',
    " data: {",
    "\n\ndata:",
    ' {"text":"x"}',
    " é",
    ' \\"content_block_delta\\"',
]
KEPT_READS = 4
"""As many last reads as the exchange keeps."""


def sse(fields: Any, event: str | None = None, *, spaced: bool = False) -> bytes:
    text = json.dumps(fields, separators=(", ", ": ") if spaced else (",", ":"))
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def chat(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": list(choices), **more}


def part(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 99}


def words(count: int) -> Iterator[str]:
    return (WORDS[index % len(WORDS)] for index in range(count))


# --- streams as engines send them: the events, without the last one that tells the usage ----------------


def vllm_chat(count: int) -> list[bytes]:
    events = [sse(chat(part({"role": "assistant", "content": ""})))]
    events += [sse(chat(part({"content": word}))) for word in words(count)]
    return [*events, b": keep-alive\n\n", sse(chat(part({"content": ""}, "stop")))]


def vllm_last_token_with_the_end(count: int) -> list[bytes]:
    events = vllm_chat(count)[:-3]
    return [*events, sse(chat(part({"content": " last"}, "length")))]


def sglang_reasoning(count: int) -> list[bytes]:
    events = [sse(chat(part({"role": "assistant", "content": "", "reasoning_content": None})))]
    events += [sse(chat(part({"content": None, "reasoning_content": word}))) for word in words(count)]
    events += [sse(chat(part({"content": word, "reasoning_content": None}))) for word in words(3)]
    return [*events, sse(chat(part({"content": None}, "stop")))]


def llamacpp_chat(count: int) -> list[bytes]:
    events = [sse(chat({"finish_reason": None, "index": 0, "delta": {"role": "assistant", "content": None}}))]
    events += [sse(chat({"finish_reason": None, "index": 0, "delta": {"content": w}})) for w in words(count)]
    return [*events, sse(chat({"finish_reason": "stop", "index": 0, "delta": {}}))]


def ollama_chat(count: int) -> list[bytes]:
    """Each event has the role."""
    events = [sse(chat(part({"role": "assistant", "content": word}))) for word in words(count)]
    return [*events, sse(chat(part({"role": "assistant", "content": ""}, "stop")))]


def spaced_chat(count: int) -> list[bytes]:
    """As servers write it that use Python's own JSON, with CR LF."""
    events = [sse(chat(part({"role": "assistant"})), spaced=True)]
    events += [sse(chat(part({"content": word})), spaced=True) for word in words(count)]
    return [event.replace(b"\n", b"\r\n") for event in [*events, sse(chat(part({}, "stop")), spaced=True)]]


def two_choices(count: int) -> list[bytes]:
    events = [sse(chat(part({"role": "assistant", "content": ""}, index=index))) for index in range(2)]
    events += [sse(chat(part({"content": w}, index=i % 2))) for i, w in enumerate(words(count))]
    events += [sse(chat(part({"content": "a"}), part({"content": "b"}, index=1)))]
    return events + [sse(chat(part({}, "stop", index=index))) for index in range(2)]


def tool_call(count: int) -> list[bytes]:
    def call(**function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]}

    events = [sse(chat(part({"role": "assistant", "content": None})))]
    events += [sse(chat(part(call(name="f", arguments=""))))]
    events += [sse(chat(part(call(arguments=word)))) for word in words(count)]
    return [*events, sse(chat(part({}, "tool_calls")))]


def completions(count: int) -> list[bytes]:
    def one(text: str, finish: str | None = None) -> bytes:
        return sse(
            {"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]}
        )

    return [*map(one, words(count)), one("", "stop")]


def responses(count: int) -> list[bytes]:
    def one(kind: str, **more: Any) -> bytes:
        return sse({"type": f"response.{kind}", **more}, f"response.{kind}")

    events = [one("created", response={"status": "in_progress", "usage": None})]
    events += [one("in_progress", response={"status": "in_progress"}), one("output_item.added", item={})]
    events += [one("reasoning_text.delta", delta=word) for word in words(2)]
    events += [one("output_text.delta", delta=word, logprobs=[]) for word in words(count)]
    events += [one("function_call_arguments.delta", delta='{"a"')]
    return [
        *events,
        one("output_text.done", text="Hi"),
        one("output_item.done", item={"status": "completed"}),
    ]


def anthropic(count: int) -> list[bytes]:
    def one(kind: str, **more: Any) -> bytes:
        return sse({"type": kind, **more}, kind)

    events = [one("message_start", message={"usage": {"input_tokens": 5, "output_tokens": 1}})]
    events += [one("content_block_start", index=0, content_block={"type": "text", "text": ""}), one("ping")]
    events += [
        one("content_block_delta", index=0, delta={"type": "text_delta", "text": w}) for w in words(count)
    ]
    events += [one("content_block_stop", index=0)]
    events += [
        one("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a":1}'})
    ]
    return [*events, one("content_block_stop", index=1), b": ping\n\n"]


STREAMS = {
    vllm_chat: CHAT,
    vllm_last_token_with_the_end: CHAT,
    sglang_reasoning: CHAT,
    llamacpp_chat: CHAT,
    ollama_chat: CHAT,
    spaced_chat: CHAT,
    two_choices: CHAT,
    tool_call: CHAT,
    completions: COMPLETIONS,
    responses: RESPONSES,
    anthropic: MESSAGES,
}
streams = pytest.mark.parametrize(
    ("stream", "route"), STREAMS.items(), ids=lambda each: each.__name__ if callable(each) else ""
)


def naive(stream: bytes) -> int:
    """Every whole event parsed, every token in it counted: what a stream with one token per event says."""
    total = 0
    for event in stream.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]:
        for line in event.split(b"\n"):
            if not line.startswith(b"data: {"):
                continue
            fields = json.loads(line[6:])
            for choice in fields.get("choices", ()):
                delta = {key: value for key, value in choice.get("delta", {}).items() if key != "role"}
                total += any(delta.values()) or bool(choice.get("text"))
            kind = fields.get("type", "")
            if kind == "content_block_delta":
                total += any(fields["delta"].get(key) for key in ("text", "partial_json"))
            elif kind.endswith(".delta"):
                total += bool(fields["delta"])
    return total


def counted(route: Route, reads: Iterable[bytes], kept: int = KEPT_READS) -> int:
    events = TokenEvents(route)
    last: deque[bytes] = deque(maxlen=kept)
    for read in reads:
        last.append(read)
        events.count(read)
    return events.tokens(last)


def cut(stream: bytes, at: Sequence[int]) -> list[bytes]:
    return [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True) if a < b]


@streams
@pytest.mark.parametrize("count", [1, 5, 100])
def test_wherever_a_stream_breaks_off_between_events(stream: Any, route: Route, count: int) -> None:
    """Every token that was relayed counts and nothing else, from none to all, one event per read."""
    events = stream(count)
    assert naive(b"".join(events)) >= count
    for relayed in range(len(events) + 1):
        assert counted(route, events[:relayed]) == naive(b"".join(events[:relayed])), relayed


@streams
def test_wherever_a_stream_is_cut(stream: Any, route: Route) -> None:
    """The same in two reads with any cut, and after a cut inside any event, of which the client saw nothing."""
    whole = b"".join(stream(6))
    for at in range(1, len(whole)):
        assert counted(route, cut(whole, [at])) == naive(whole), at
        assert counted(route, [whole[:at]]) == naive(whole[:at]), at


@streams
def test_however_a_stream_is_cut(stream: Any, route: Route) -> None:
    """The same with many cuts at random, as long as the last reads hold the last events."""
    rng = random.Random(7)
    whole = b"".join(stream(80))
    for _ in range(150):
        end = rng.randrange(2000, len(whole))
        at = sorted(rng.sample(range(end - 1000), 20))
        assert counted(route, cut(whole[:end], at)) == naive(whole[:end])


@streams
def test_byte_by_byte(stream: Any, route: Route) -> None:
    """Where the last reads hold not even an event, each choice's end counts as a token, and no more is wrong."""
    whole = b"".join(stream(40))
    assert 0 <= counted(route, [bytes([byte]) for byte in whole]) - naive(whole) <= 2


@streams
def test_a_long_stream_in_big_reads(stream: Any, route: Route) -> None:
    """The bound on what is parsed at the end changes nothing."""
    whole = b"".join(stream(3000))
    for size in (1000, 30_000, 10**6):
        assert counted(route, cut(whole, range(size, len(whole), size))) == naive(whole)


def test_a_token_without_text() -> None:
    """vLLM's empty text in mid-stream is half a letter, and a token."""
    events = vllm_chat(3)
    events.insert(2, sse(chat(part({"content": ""}))))
    for relayed, tokens in enumerate([0, 0, 1, 2, 3, 4]):
        assert counted(CHAT, events[:relayed]) == tokens


@pytest.mark.parametrize("told", ["usage", "timings"])
def test_a_running_count_is_believed(told: str) -> None:
    """With several tokens in an event, the count that the engine tells in it is exact."""
    key = {"usage": "completion_tokens", "timings": "predicted_n"}[told]
    events = [sse(chat(part({"role": "assistant", "content": ""}), **{told: {"prompt_tokens": 5, key: 0}}))]
    events += [
        sse(chat(part({"content": "a b c"}), **{told: {"prompt_tokens": 5, key: 3 * index}}))
        for index in range(1, 200)
    ]
    for relayed in range(1, len(events)):
        assert counted(CHAT, events[:relayed]) == 3 * (relayed - 1)
    assert counted(CHAT, [*events, b": ping\n\n", DONE]) == 3 * 199


def test_a_running_count_of_one_choice_is_not_that_of_all() -> None:
    """vLLM tells each choice's own count; what both sent is more."""
    events = [sse(chat(part({"role": "assistant"}, index=index))) for index in range(2)]
    events += [
        sse(chat(part({"content": "a"}, index=i % 2), usage={**USAGE, "completion_tokens": i // 2 + 1}))
        for i in range(50)
    ]
    assert counted(CHAT, events) == 50


def test_an_empty_usage_says_nothing() -> None:
    """Ollama's completions tell zeros in every event, and Anthropic's first event what is to come."""
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    events = [sse({"choices": [{"index": 0, "text": word}], "usage": zeros}) for word in words(9)]
    assert counted(COMPLETIONS, events) == 9
    assert counted(MESSAGES, anthropic(9)[:1]) == 0


def test_the_last_word_is_the_engine_s() -> None:
    """If the usage came after all, it is taken."""
    assert counted(CHAT, [*vllm_chat(7), sse(chat(usage=USAGE)), DONE]) == 99


@pytest.mark.parametrize("route", [CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS])
def test_whatever_comes_is_a_count(route: Route) -> None:
    """Bytes that are no events, or events of another route, give a number and no error."""
    rng = random.Random(11)
    pieces = [b'"delta":', b"data: ", b"{", b"}", b"\n\n", b"\r\n", b'"text":', b'{"choices":[1]}', b"\xff", b"[]",
              b'{"choices":5}', b'{"delta":1,"type":"x.delta"}', b'"content_block_delta"', b"\r\r"]  # fmt: skip
    for _ in range(2000):
        reads = [b"".join(rng.choices(pieces, k=rng.randrange(1, 6))) for _ in range(rng.randrange(1, 9))]
        assert counted(route, reads) >= 0
    assert TokenEvents(route).tokens([]) == 0
