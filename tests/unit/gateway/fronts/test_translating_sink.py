"""The inner route's answer in, the outer API's answer out: cut anywhere, broken anywhere, whole or streamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from inferry.core.errors import EngineTimeout, EngineUnfinished, InvalidRequest, NoReadyReplica
from inferry.core.request import CHAT, COMPLETIONS, Dialect
from inferry.gateway.errors import render_error, render_error_event
from inferry.gateway.fronts.front import Grumbler, Translate, Writer
from inferry.gateway.fronts.ollama_answer import OllamaErrors
from inferry.gateway.fronts.ollama_request import chat, embed
from inferry.gateway.fronts.ollama_request import generate as ollama_generate
from inferry.gateway.fronts.tgi_answer import TgiErrors
from inferry.gateway.fronts.tgi_request import compat_generate, generate, generate_stream
from inferry.gateway.fronts.translating_sink import TranslatingSink

from .talk import Client, Hands, ask

TGI, OLLAMA = TgiErrors(), OllamaErrors()
EVENTS_HEAD = b"x-request-id: r-1\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
JSON_HEAD = b"content-type: application/json\r\nx-request-id: r-1\r\n"
QUESTION: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def text_event(text: str, reason: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "text": text, "finish_reason": reason}])


def delta_event(reason: str | None = None, **delta: object) -> bytes:
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])


USAGE = event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 9})
DONE = b"data: [DONE]\n\n"
COMPLETION = (
    b": keep alive\n\n"
    + text_event(" gr\u00fc\u00df")
    + text_event("")
    + text_event(" dich\u2028")
    + text_event("", "length")
    + USAGE
    + DONE
)
CHATTED = (
    delta_event(role="assistant", content=None)
    + delta_event(reasoning_content="hm")
    + delta_event(content="Gr\u00fc\u00df dich\n\n")
    + delta_event(content=" \U0001f600")
    + delta_event(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a"'}}])
    + delta_event(tool_calls=[{"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}}])
    + delta_event(tool_calls=[{"index": 0, "function": {"arguments": ":[1]}"}}])
    + delta_event("tool_calls")
    + USAGE
    + DONE
)


@dataclass
class Talk:
    """One answer on its way: the sink that an exchange would feed, and the client behind it."""

    sink: TranslatingSink
    client: Client
    hands: Hands


def talk(translate: Translate, body: object, errors: Grumbler) -> Talk:
    hands, client = Hands(), Client()
    sink = TranslatingSink(client, errors)
    sink.writer = ask(translate, body, hands=hands)[1].writer
    return Talk(sink, client, hands)


def tgi_talk(**more: Any) -> Talk:
    return talk(generate_stream, {"inputs": "Ich", "parameters": {"details": True, **more}}, TGI)


def chat_talk(**more: Any) -> Talk:
    return talk(chat, {**QUESTION, **more}, OLLAMA)


def stream(
    each: Talk, pieces: Sequence[bytes], *, head: bytes = EVENTS_HEAD, end: bool | bytes = True
) -> Client:
    """The client, after these reads; `end`: the last one comes with the end, as exchanges do it, or something else."""
    each.sink.start(200, head, None)
    last: Sequence[bytes] = ()
    if end is True:
        pieces, last = pieces[:-1], pieces[-1:]
    for piece in pieces:
        each.sink.write(piece)
    if end is not False:
        each.sink.end(end if isinstance(end, bytes) else b"".join(last))
    return each.client


def whole(each: Talk, body: bytes, *, status: int = 200, head: bytes = JSON_HEAD) -> Client:
    """The client, after an answer that is no stream, in two reads."""
    each.sink.start(status, head, len(body))
    each.sink.write(body[: len(body) // 2])
    each.sink.end(body[len(body) // 2 :])
    assert each.client.ended
    assert each.client.length in (None, len(each.client.body))
    return each.client


# --- every cut ----------------------------------------------------------------------------------------


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """In two pieces at every byte, in three around every boundary, and byte by byte."""
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    for at in range(1, len(data) - 1):
        if data[at : at + 1] in (b"\n", b"\r"):
            yield [data[:at], data[at : at + 1], data[at + 1 :]]
    yield [data[at : at + 1] for at in range(len(data))]


def crlf(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("line_ends", [bytes, crlf])
@pytest.mark.parametrize(("start", "data"), [(tgi_talk, COMPLETION), (chat_talk, CHATTED)])
def test_every_cut_gives_the_same_answer(
    start: Callable[[], Talk], data: bytes, line_ends: Callable[[bytes], bytes]
) -> None:
    """However an engine's stream is cut into reads, and whichever line ends it has, the client gets the same bytes."""
    expected = stream(start(), [data]).body
    assert expected
    cut = line_ends(data)
    for pieces in cuts(cut):
        client = stream(start(), pieces)
        assert client.body == expected, pieces
        assert client.ended


def test_events_go_on_as_they_come() -> None:
    """A client need not wait for the next event to see this one; what says nothing makes no chunk."""
    each = tgi_talk()
    each.sink.start(200, EVENTS_HEAD, None)
    each.sink.write(text_event("a"))
    assert [got["token"]["text"] for got in each.client.events()] == ["a"]
    each.sink.write(b": ping\n\n")
    each.sink.write(text_event("b"))
    assert len(each.client.pieces) == 2
    assert not each.client.ended


def test_an_event_without_its_last_line_counts() -> None:
    """The end of the stream ends its last event, too."""
    data = text_event("a") + text_event("b", "stop")[:-2]
    assert stream(tgi_talk(), [data]).events()[-1]["generated_text"] == "ab"


def test_an_event_that_never_ends_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine does not end is not kept for ever: the client is told."""
    monkeypatch.setattr("inferry.gateway.fronts.answer_pieces.EventReader.BYTES_MAX", 100)
    client = stream(tgi_talk(), [b"data: " + b"x" * 200, b"y", text_event("late")])
    assert [set(got) for got in client.events()] == [{"error", "error_type"}]


# --- TGI ----------------------------------------------------------------------------------------------


def test_a_tgi_stream() -> None:
    """An event for each piece of text, the last one with the whole text, the reason and the engine's own count."""
    client = stream(tgi_talk(seed=3), [COMPLETION])
    assert (client.status, client.length) == (200, None)
    assert client.lines == b"x-request-id: r-1\r\ncontent-type: text/event-stream\r\n"
    first, second, last = client.events()
    assert first == {
        "index": 1,
        "token": {"id": -1, "text": " gr\u00fc\u00df", "logprob": None, "special": False},
        "generated_text": None,
        "details": None,
    }
    assert second["token"]["text"] == " dich\u2028"
    assert last == {
        "index": 3,
        "token": {"id": -1, "text": "", "logprob": None, "special": True},
        "generated_text": " gr\u00fc\u00df dich\u2028",
        "details": {"finish_reason": "length", "generated_tokens": 9, "seed": 3},
    }


def test_a_tgi_stream_of_an_engine_that_does_not_count() -> None:
    """Without usage, the pieces are counted."""
    client = stream(tgi_talk(), [text_event("a") + text_event("b", "stop")])
    assert client.events()[-1]["details"]["generated_tokens"] == 2


def test_the_full_text_begins_with_the_prompt() -> None:
    """If `return_full_text` says so; by default on POST / only, and there it can be told not to."""
    answer = json.dumps({"choices": [{"text": " bin", "finish_reason": "stop"}]}).encode()
    inputs: dict[str, Any] = {"inputs": "Ich"}
    for translate, parameters, text in [
        (generate, {}, " bin"),
        (generate, {"return_full_text": True}, "Ich bin"),
        (compat_generate, {}, "Ich bin"),
        (compat_generate, {"return_full_text": False}, " bin"),
    ]:
        client = whole(talk(translate, {**inputs, "parameters": parameters}, TGI), answer)
        got = json.loads(client.body)
        assert (got if translate is generate else got[0]) == {"generated_text": text}
    streamed = stream(tgi_talk(return_full_text=True), [text_event(" bin", "stop")])
    assert streamed.events()[-1]["generated_text"] == "Ich bin"


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"finish_reason": "stop"}, "eos_token"),
        ({"finish_reason": "stop", "stop_reason": None}, "eos_token"),
        ({"finish_reason": "stop", "stop_reason": 151645}, "eos_token"),
        ({"finish_reason": "stop", "stop_reason": "END"}, "stop_sequence"),
        ({"finish_reason": "length"}, "length"),
    ],
)
def test_why_a_tgi_answer_ended(ended: dict[str, Any], reason: str) -> None:
    """In TGI's words; vLLM tells a stop text from the model's own end."""
    body = {"choices": [{"text": "x", **ended}], "usage": {"completion_tokens": 4}}
    client = whole(
        talk(generate, {"inputs": "Hi", "parameters": {"details": True}}, TGI), json.dumps(body).encode()
    )
    details = json.loads(client.body)["details"]
    assert details == {
        "finish_reason": reason, "generated_tokens": 4, "seed": None, "prefill": [], "tokens": [],
    }  # fmt: skip


# --- Ollama -------------------------------------------------------------------------------------------


def test_an_ollama_stream() -> None:
    """A line for each piece; calls whole, in one line; the last line with reason and counts."""
    client = stream(chat_talk(), [CHATTED])
    assert client.lines == b"x-request-id: r-1\r\ncontent-type: application/x-ndjson\r\n"
    thought, first, second, called, last = client.rows()
    assert thought["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert first == {
        "model": "chat",
        "created_at": "2026-01-31T12:00:00.250Z",
        "message": {"role": "assistant", "content": "Gr\u00fc\u00df dich\n\n"},
        "done": False,
    }
    assert second["message"]["content"] == " \U0001f600"
    assert called["message"]["tool_calls"] == [
        {"function": {"name": "f", "arguments": {"a": [1]}}},
        {"function": {"name": "g", "arguments": {}}},
    ]
    assert (last["done"], last["done_reason"]) == (True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"]) == (5, 9)


def test_durations_that_the_gateway_saw() -> None:
    """Until the first piece, and from there to the end, in nanoseconds; llama.cpp's own measure goes before."""
    for timings, durations in [
        ({}, (2_000_000_000, 3_000_000_000)),
        ({"prompt_ms": 7.5, "predicted_ms": 9.25}, (7_500_000, 9_250_000)),
    ]:
        each = chat_talk()
        each.sink.start(200, EVENTS_HEAD, None)
        each.sink.write(delta_event(role="assistant", content=""))
        each.hands.now_s += 2
        each.sink.write(delta_event(content="a"))
        each.hands.now_s += 3
        each.sink.end(event(choices=[{"delta": {}, "finish_reason": "stop"}], timings=timings) + DONE)
        last = each.client.rows()[-1]
        assert last["total_duration"] == 5_000_000_000
        assert (last["prompt_eval_duration"], last["eval_duration"]) == durations


def test_a_whole_ollama_answer() -> None:
    """One object, with what the engine told; what it did not tell is not there."""
    message = {
        "role": "assistant", "content": "Hi", "reasoning": "hm",
        "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
    }  # fmt: skip
    body = json.dumps({"choices": [{"message": message, "finish_reason": "length"}]}).encode()
    each = chat_talk(stream=False)
    each.hands.now_s += 1.5
    client = whole(each, body)
    assert client.lines == b"x-request-id: r-1\r\ncontent-type: application/json\r\n"
    assert json.loads(client.body) == {
        "model": "chat",
        "created_at": "2026-01-31T12:00:00.250Z",
        "message": {
            "role": "assistant",
            "content": "Hi",
            "thinking": "hm",
            "tool_calls": [{"function": {"name": "f", "arguments": {}}}],
        },
        "done": True,
        "done_reason": "length",
        "total_duration": 1_500_000_000,
    }


def test_several_calls_of_a_whole_answer_stay_apart() -> None:
    """Calls in a whole answer have no index; they are told apart by their order."""
    calls = [{"id": name, "function": {"name": name, "arguments": "{}"}} for name in ("f", "g")]
    body = {"choices": [{"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
    client = whole(chat_talk(stream=False), json.dumps(body).encode())
    said = json.loads(client.body)["message"]
    assert [call["function"]["name"] for call in said["tool_calls"]] == ["f", "g"]


def test_generate_says_response() -> None:
    """/api/generate puts its text elsewhere than /api/chat."""
    each = talk(ollama_generate, {"model": "chat", "prompt": "x", "raw": True}, OLLAMA)
    assert [row["response"] for row in stream(each, [COMPLETION]).rows()] == [
        " gr\u00fc\u00df",
        " dich\u2028",
        "",
    ]


def test_embeddings() -> None:
    """In the order of their indices, number for number, with the count of the prompt."""
    vectors = b'{"data":[{"index":1,"embedding":[3.0,4e-7]},{"index":0,"embedding":[1.25,2]}],"usage":{"prompt_tokens":6}}'
    client = whole(talk(embed, {"model": "chat", "input": ["a", "b"]}, OLLAMA), vectors)
    got = json.loads(client.body)
    assert got["embeddings"] == [[1.25, 2], [3.0, 4e-7]]
    assert b"[3.0,4e-7]" in client.body
    assert got["prompt_eval_count"] == 6


# --- errors -------------------------------------------------------------------------------------------

BODIES = {
    "OpenAI's": b'{"error":{"message":"too long","type":"x","code":"context"}}',
    "llama.cpp's": b'{"error":{"code":400,"message":"too long","type":"x"}}',
    "a text": b'{"error":"too long"}',
    "vLLM's old": b'{"object":"error","message":"too long","code":400}',
    "FastAPI's": b'{"detail":"too long"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("streams", [True, False])
def test_errors_instead_of_an_answer(body: bytes, streams: bool) -> None:
    """An engine's error, in whichever shape, becomes one in the outer API's, with its status, asked for a stream or not."""
    tgi = whole(talk(compat_generate, {"inputs": "Hi", "stream": streams}, TGI), body, status=400)
    assert (tgi.status, json.loads(tgi.body)) == (400, {"error": "too long", "error_type": "validation"})
    ollama = whole(chat_talk(stream=streams), body, status=400)
    assert (ollama.status, json.loads(ollama.body)) == (400, {"error": "too long"})
    assert b"content-type: application/json\r\n" in ollama.lines
    assert b"x-request-id: r-1\r\n" in ollama.lines


@pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"[1]", b'{"error":{}}', b"\xff"])
def test_errors_without_words(body: bytes) -> None:
    """A page of a proxy's, or nothing at all, still becomes an error that says which status it had."""
    client = whole(chat_talk(), body, status=502, head=b"content-type: text/html\r\n")
    assert client.status == 502
    assert "status 502" in json.loads(client.body)["error"]
    assert b"html" not in client.lines


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "validation"), (413, "validation"), (422, "validation"), (429, "overloaded"), (503, "overloaded"),
        (500, "generation"), (502, "generation"), (504, "generation"), (401, None), (404, None),
    ],
)  # fmt: skip
def test_types_of_tgi_errors(status: int, kind: str | None) -> None:
    """TGI's own words, and none where it has none."""
    body = render_error(InvalidRequest("no"), Dialect.OPENAI)
    client = whole(tgi_talk(), body, status=status)
    assert json.loads(client.body).get("error_type") == kind


def test_errors_of_ours_before_the_request_is_understood() -> None:
    """A refusal by the head comes before there is a writer."""
    client = Client()
    sink = TranslatingSink(client, OLLAMA)
    body = render_error(NoReadyReplica("none is ready", retry_after_s=2.0), CHAT.dialect)
    sink.start(503, b"content-type: application/json\r\nretry-after: 2\r\n", len(body))
    sink.end(body)
    assert (client.status, json.loads(client.body)) == (503, {"error": "none is ready"})
    assert b"retry-after: 2\r\n" in client.lines


@pytest.mark.parametrize("frame", [
    b'data: {"error":{"message":"boom","code":500}}\n\n',
    b'data: {"error":"boom"}\n\n',
    b'data: {"error":{"message":"boom","type":"x","param":null,"code":"engine_broke"}}\n\ndata: [DONE]\n\n',
    render_error_event(EngineTimeout("boom"), COMPLETIONS.dialect),
])  # fmt: skip
def test_errors_in_the_middle(frame: bytes) -> None:
    """The pieces so far, then the error, and nothing more: no end that looks like one."""
    tgi = stream(tgi_talk(), [text_event("a"), frame])
    first, error = tgi.events()
    assert first["token"]["text"] == "a"
    assert error["error"] == "boom"
    assert error["error_type"] == "generation"
    ollama = stream(chat_talk(), [delta_event(content="a"), frame, delta_event(content="late"), DONE])
    assert [row.get("error") for row in ollama.rows()] == [None, "boom"]


def test_the_engine_names_the_clients_fault_in_the_middle() -> None:
    """A status inside the error decides its type."""
    frame = b'data: {"error":{"message":"too long","code":400}}\n\n'
    assert stream(tgi_talk(), [frame]).events() == [{"error": "too long", "error_type": "validation"}]


def test_an_unfinished_answer() -> None:
    """What the gateway says of an engine that ended without a reason reaches the client in its API's words."""
    event_of_ours = render_error_event(EngineUnfinished("no reason"), CHAT.dialect)
    rows = stream(chat_talk(), [delta_event(content="a"), event_of_ours]).rows()
    assert rows[-1] == {"error": "no reason"}


def test_null_is_no_error() -> None:
    """Some engines have `error: null` in each event."""
    client = stream(tgi_talk(), [event(error=None, choices=[{"text": "a", "finish_reason": "stop"}])])
    assert client.events()[-1]["generated_text"] == "a"


@pytest.mark.parametrize("reason", ["abort", "aborted", "cancelled", "error", "failed"])
def test_reasons_that_are_no_end(reason: str) -> None:
    """An answer that was given up is an error, whole or streamed."""
    body = {"choices": [{"message": {"content": "a"}, "text": "a", "finish_reason": reason}]}
    for each in (chat_talk(stream=False), talk(generate, {"inputs": "x"}, TGI)):
        client = whole(each, json.dumps(body).encode())
        assert client.status == 502
        assert reason in json.loads(client.body)["error"]
    assert reason in stream(tgi_talk(), [text_event("a") + text_event("", reason)]).events()[-1]["error"]


@pytest.mark.parametrize(
    ("reason", "in_tgi"),
    [
        ("eos_token", "eos_token"),
        ("stop_sequence", "stop_sequence"),
        ("repetition", "eos_token"),
        ("something_new", "eos_token"),
    ],
)
def test_words_for_an_end_that_openai_has_not(reason: str, in_tgi: str) -> None:
    """TGI's own, vLLM's, and those to come: an end, as the gateway judges it. An empty text is none."""
    data = text_event("a", "") + text_event("b", "") + text_event("", reason) + DONE
    last = stream(tgi_talk(), [data]).events()[-1]
    assert (last["generated_text"], last["details"]["finish_reason"]) == ("ab", in_tgi)
    raw = talk(ollama_generate, {"model": "chat", "prompt": "x", "raw": True}, OLLAMA)
    rows = stream(raw, [data]).rows()
    assert [row["response"] for row in rows] == ["a", "b", ""]
    assert rows[-1]["done_reason"] == "stop"


def test_a_filters_end() -> None:
    """An answer that a filter ended is an error for TGI, which has no word for it; Ollama's line names the reason."""
    tgi = stream(tgi_talk(), [text_event("a") + text_event("", "content_filter") + DONE])
    assert tgi.events()[-1] == {
        "error": "A filter of the operator's has ended the answer.", "error_type": "validation",
    }  # fmt: skip
    ollama = stream(chat_talk(), [delta_event(content="a") + delta_event("content_filter") + DONE])
    assert ollama.rows()[-1]["done_reason"] == "content_filter"


@pytest.mark.parametrize("arguments", ["{", "[1]", "3", '{"a":1}}'])
def test_a_call_that_is_no_call(arguments: str) -> None:
    """Ollama's clients get arguments as an object, so what is none is an error and no invented call."""
    call = [{"index": 0, "function": {"name": "f", "arguments": arguments}}]
    rows = stream(chat_talk(), [delta_event(tool_calls=call) + delta_event("tool_calls") + DONE]).rows()
    assert list(rows[-1]) == ["error"]
    assert not any(row.get("done") for row in rows)


def test_calls_nested_deeply() -> None:
    """However deep a model nests a call's arguments, the client gets the call or an error, whole or streamed."""
    seen: set[bool] = set()
    for depth in [*range(880, 1010, 2), 10_000]:
        arguments = '{"a":' + "[" * depth + "]" * depth + "}"
        call = [{"index": 0, "function": {"name": "f", "arguments": arguments}}]
        streamed = stream(chat_talk(), [delta_event(tool_calls=call) + delta_event("tool_calls") + DONE])
        body = {"choices": [{"message": {"tool_calls": call}, "finish_reason": "tool_calls"}]}
        answered = whole(chat_talk(stream=False), json.dumps(body).encode())
        for client in (streamed, answered):
            is_error = b'{"error":' in client.body
            assert is_error is not (b'"done":true' in client.body)
            seen.add(is_error)
    assert seen == {True, False}


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: [1]\n\n", b"data: \xff\n\n", b'data: {"choices":[{"text":3}]}\n\n', b"data: " + b"[" * 100_000 + b"\n\n"])  # fmt: skip
def test_events_that_cannot_be_read(data: bytes) -> None:
    """Garbage from an engine is an error, never an answer or a fault of ours."""
    assert stream(tgi_talk(), [data]).events()[-1]["error_type"] == "generation"
    assert whole(talk(generate, {"inputs": "x"}, TGI), data[6:-2]).status == 502


def test_a_stream_that_is_cut_is_cut() -> None:
    """If the answer can't be completed, the client must notice."""
    each = tgi_talk()
    stream(each, [text_event("a")], end=False)
    each.sink.cut()
    assert (each.client.was_cut, each.client.ended) == (True, False)


def test_an_answer_that_is_cut_before_it_began_is_an_error() -> None:
    """Of an answer that is no stream nothing has gone out yet, so that the client can be told."""
    each = chat_talk(stream=False)
    each.sink.start(200, JSON_HEAD, 100)
    each.sink.write(b'{"choices"')
    each.sink.cut()
    assert (each.client.status, each.client.was_cut) == (502, False)
    assert json.loads(each.client.body) == {"error": "The engine's answer broke off."}


def test_an_engine_that_does_not_stream() -> None:
    """A whole answer to a request for a stream becomes a stream of one piece."""
    body = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}).encode()
    first, last = whole(chat_talk(), body).rows()
    assert (first["message"]["content"], first["done"], last["done"]) == ("Hi", False, True)


def test_an_answer_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held has a bound."""
    monkeypatch.setattr("inferry.gateway.fronts.translating_sink._HELD_BYTES_MAX", 10)
    client = whole(chat_talk(stream=False), b'{"choices": []} and more')
    assert (client.status, json.loads(client.body)) == (502, {"error": "The engine's answer is too long."})


def test_writers_are_writers() -> None:
    """The types that stand behind a stream or a whole answer fit the protocol."""
    writers: list[Writer] = [
        ask(generate, {"inputs": "x"})[1].writer,
        ask(chat, QUESTION)[1].writer,
        ask(embed, {"model": "m", "input": "x"})[1].writer,
    ]
    assert [writer.stream_type for writer in writers] == [None, b"application/x-ndjson", None]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
@pytest.mark.parametrize("cut", ['{"a": "unfin', "{", ""])
@pytest.mark.parametrize("streams", [True, False])
def test_a_call_that_was_cut_short(streams: bool, cut: str, reason: str) -> None:
    """It is left out; the text and the whole call before it are an answer, and the reason says why there is no more."""
    calls = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"index": 1, "id": "b", "function": {"name": "g", "arguments": cut}},
    ]
    if streams:
        data = delta_event(content="Let me see.") + delta_event(tool_calls=calls) + delta_event(reason) + DONE
        rows = stream(chat_talk(), [data]).rows()
    else:
        message = {"content": "Let me see.", "tool_calls": calls}
        body = {"choices": [{"message": message, "finish_reason": reason}]}
        rows = [json.loads(whole(chat_talk(stream=False), json.dumps(body).encode()).body)]
    assert "".join(row["message"]["content"] for row in rows) == "Let me see."
    called = [call for row in rows for call in row["message"].get("tool_calls", ())]
    assert called == [{"function": {"name": "f", "arguments": {"a": 1}}}]
    assert rows[-1]["done_reason"] == reason
