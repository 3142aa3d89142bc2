"""Filters as clients and engines meet them: running gateways before upstreams that cut their answers anywhere."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import yaml

from tests.unit.gateway.filters.wire import (
    ARGUMENTS,
    DIALECTS,
    ROUTE_OF,
    bodies_of,
    ending_of,
    few_cuts,
    stream_of,
    text_of,
)

from .gateway_harness import SSE_HEAD, Seen, Upstream, chunk, json_answer
from .inferry_process import Inferry, Up, wait_for
from .live_upstream import live_upstream

PROMPT_TOKENS, COMPLETION_TOKENS = 3, 5
USAGE = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS, "total_tokens": 8}
ENDINGS = {"chat": "content_filter", "completions": "content_filter", "responses": "content_filter", "messages": "refusal"}  # fmt: skip


@dataclass
class Engine:
    """Says the script that a request names by its `seed`."""

    scripts: list[list[bytes]] = field(default_factory=list)
    hangs: bool = False
    """It never ends its streams."""

    def add(self, *writes: bytes) -> int:
        """A script: what is written, one piece after the other. Returns its seed."""
        self.scripts.append(list(writes))
        return len(self.scripts) - 1

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if not seen.body:  # the probe
            writer.write(json_answer(b'{"object":"list","data":[]}'))
            return
        for piece in self.scripts[json.loads(seen.body)["seed"]]:
            if seen.closed.is_set():
                return
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if self.hangs:
            await seen.closed.wait()


@dataclass
class Judge:
    """A classifier and a guard model: whatever is `bad` is unsafe."""

    mode: str = "ok"
    questions: int = 0

    async def answer(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if not seen.body:
            writer.write(json_answer(b"{}"))
            return
        self.questions += 1
        if self.mode == "slow":
            await seen.closed.wait()
            return
        if self.mode == "down":
            writer.close()
            return
        found = b"bad" in seen.body
        if seen.path == "/moderations":
            body: dict[str, Any] = {"results": [{"flagged": found, "category_scores": {}}]}
        else:
            body = {"choices": [{"message": {"content": "unsafe\nS1" if found else "safe"}}]}
        writer.write(json_answer(json.dumps(body).encode()))


class Running:
    """One `inferry up` with all deployments of this file."""

    def __init__(self, up: Up, url: str, engine: Engine, upstream: Upstream, judge: Judge) -> None:
        self.up = up
        self.engine = engine
        self.upstream = upstream
        self.judge = judge
        self.client = httpx.Client(base_url=url, timeout=60)

    def ask(self, path: str, model: str = "chat", **fields: Any) -> httpx.Response:
        """`messages` and whatever else the route must have, if the test has not given it."""
        body: dict[str, Any] = {"model": model, "max_tokens": 50}
        if path == "/v1/completions":
            body["prompt"] = "Hello"
        elif path == "/v1/responses":
            body["input"] = "Hello"
        else:
            body["messages"] = [{"role": "user", "content": "Hello"}]
        return self.client.post(path, json={**body, **fields})

    def say(self, dialect: str, pieces: Sequence[str], model: str = "chat") -> bytes:
        """The stream that a client gets of an answer whose text comes in these pieces."""
        events = [
            each.replace(b'{"total_tokens": 9}', json.dumps(USAGE).encode())
            for each in stream_of(dialect, pieces)
        ]
        seed = self.engine.add(SSE_HEAD, *(chunk(each) for each in events), b"0\r\n\r\n")
        answer = self.ask(ROUTE_OF[dialect].path, model, stream=True, seed=seed)
        assert answer.status_code == 200, answer.text
        return answer.content

    def sent(self) -> list[bytes]:
        """Bodies that the engine got."""
        return [seen.body for seen in self.upstream.seen if seen.body]

    def metric(self, start: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def file(upstream: Upstream, judge: Upstream) -> dict[str, Any]:
    place = f"http://127.0.0.1:{upstream.port}/v1"

    def deployment(*filters: dict[str, Any]) -> dict[str, Any]:
        return {"engine": "openai", "model": "m", "endpoints": [place], "filters": list(filters)}

    def classifier(**settings: Any) -> dict[str, Any]:
        url = f"http://127.0.0.1:{judge.port}/moderations"
        return {"name": "judge", "classifier": {"url": url, "timeout_s": 0.3, "window_chars": 20, **settings}}

    return {
        "gateway": {"body_max_bytes": 64 * 2**20},
        "deployments": {
            "chat": deployment(
                {"name": "owl", "on": "input", "terms": ["Snowy Owl"]},
                {"name": "mail", "on": "input", "action": "mask", "detect": ["email"]},
                {"name": "acme", "on": "input", "action": "flag", "terms": ["Acme"]},
                {"name": "bird", "on": "output", "action": "mask", "terms": ["Nightjar"]},
                {"name": "heron", "on": "output", "terms": ["Blue Heron"]},
            ),
            "plain": deployment(),
            "judged": deployment(classifier(on_error="block")),
            "lenient": deployment(classifier(on_error="pass")),
            "guarded": deployment({"name": "guard", "guard": "guard", "guard_window_chars": 20}),
            "guard": {"engine": "openai", "model": "g", "endpoints": [f"http://127.0.0.1:{judge.port}/v1"]},
            "large": deployment({"name": "all", "action": "mask", "detect": ["card", "email", "iban", "secret"]}),
        },
    }  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    engine, judge = Engine(), Judge()
    inferry = Inferry(tmp_path_factory.mktemp("filters"))
    with live_upstream(engine.answer) as upstream, live_upstream(judge.answer) as judging:
        inferry.write(yaml.safe_dump(file(upstream, judging)))
        with inferry.up() as up:
            running = Running(up, up.wait_ready(), engine, upstream, judge)
            with running.client:
                yield running


# --- requests -----------------------------------------------------------------------------------------


def whole(text: str, dialect: str = "chat") -> dict[str, Any]:
    """An answer that is no stream."""
    match dialect:
        case "chat" | "reasoning":
            name = "content" if dialect == "chat" else "reasoning_content"
            message: dict[str, Any] = {"role": "assistant", "content": None, name: text}
        case "tool":
            call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": text}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        case "completions":
            return {
                "id": "c",
                "choices": [{"index": 0, "text": text, "finish_reason": "stop"}],
                "usage": USAGE,
            }
        case "responses" | "response_tool":
            item: dict[str, Any] = {"type": "function_call", "id": "i", "name": "f", "arguments": text}
            if dialect == "responses":
                item = {"type": "message", "id": "i", "content": [{"type": "output_text", "text": text}]}
            usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS, "total_tokens": 8}
            return {"id": "r", "object": "response", "status": "completed", "output": [item], "usage": usage}
        case _:
            part: dict[str, Any] = {"type": "text", "text": text}
            if dialect == "message_tool":
                part = {"type": "tool_use", "id": "t", "name": "f", "input": json.loads(text)}
            usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS}
            return {
                "type": "message",
                "id": "m",
                "content": [part],
                "stop_reason": "end_turn",
                "usage": usage,
            }
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}


def script(running: Running, text: str, dialect: str = "chat") -> int:
    return running.engine.add(json_answer(json.dumps(whole(text, dialect)).encode()))


def test_a_blocked_request_reaches_no_engine(running: Running) -> None:
    """400 in the dialect's own form, with the filter's name and not the text; streams too."""
    before = len(running.sent())
    for stream in (False, True):
        found = running.ask(
            "/v1/chat/completions", messages=[{"role": "user", "content": "a snowy owl"}], stream=stream
        )
        error = found.json()["error"]
        assert (found.status_code, error["code"], error["type"]) == (
            400,
            "content_filter",
            "invalid_request_error",
        )
        assert error["message"] == "The request was stopped by the filter 'owl'."
        found = running.ask("/v1/messages", system="Snowy Owl", stream=stream)
        assert (found.status_code, found.json()["type"]) == (400, "error")
        assert found.json()["error"]["type"] == "invalid_request_error"
        assert "'owl'" in found.json()["error"]["message"]
    assert len(running.sent()) == before
    assert running.metric('inferry_filtered_total{action="block",deployment="chat",filter="owl"}') == 4


def test_masks_and_flags_of_requests(running: Running) -> None:
    """The engine gets the masked text and the rest as it was; the client is told the flag; both are counted."""
    messages = [{"role": "user", "content": "Write to jane.doe@example.com of Acme"}]
    found = running.ask("/v1/chat/completions", messages=messages, seed=script(running, "Yes."))
    assert found.status_code == 200
    assert found.headers["x-inferry-flags"] == "acme"
    assert json.loads(running.sent()[-1])["messages"][0]["content"] == "Write to [removed] of Acme"
    assert running.metric('inferry_filtered_total{action="mask",deployment="chat",filter="mail"}') == 1
    assert running.metric('inferry_filtered_total{action="flag",deployment="chat",filter="acme"}') == 1
    quiet = running.ask("/v1/chat/completions", seed=script(running, "Yes."))
    assert "x-inferry-flags" not in quiet.headers


# --- answers ------------------------------------------------------------------------------------------


def cuts(text: str) -> Iterator[list[str]]:
    """Whole, one character each, and every way to cut it once."""
    yield [text]
    yield list(text)
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]


def texts(dialect: str, word: str) -> tuple[str, str]:
    """A text with that word, and what is left of it when it is masked."""
    if dialect in ARGUMENTS:
        return f'{{"q": "a {word} b"}}', '{"q": "a [removed] b"}'
    return f"a {word}, b", "a [removed], b"


def dialect_of_route(dialect: str) -> str:
    return next(name for name, route in ROUTE_OF.items() if route is ROUTE_OF[dialect])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_streams_wherever_they_are_cut(running: Running, dialect: str) -> None:
    """A text that is masked or blocked is found in every dialect, whichever pieces it comes in; a mask changes nothing
    else, and a block ends the stream in the dialect's own way, with nothing of the text before it."""
    check_streams(running, dialect, cuts)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_streams_that_are_cut_twice(running: Running, dialect: str) -> None:
    """The same for every way to make three pieces."""
    check_streams(running, dialect, few_cuts)


def check_streams(running: Running, dialect: str, ways: Any) -> None:
    text, masked = texts(dialect, "Nightjar")
    for pieces in ways(text):
        assert text_of(dialect, running.say(dialect, pieces)) == masked, pieces
    text, _ = texts(dialect, "Blue Heron")
    for pieces in ways(text):
        stream = running.say(dialect, pieces)
        shown = text_of(dialect, stream)
        assert shown == text[: len(shown)], pieces
        assert len(shown) <= text.index("Blue Heron"), pieces
        assert ending_of(dialect, stream) == ENDINGS[dialect_of_route(dialect)], pieces


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whole_answers(running: Running, dialect: str) -> None:
    """The same for answers that are no streams; tokens are counted as the engine did."""
    tokens = running.metric('inferry_tokens_total{deployment="chat"')
    path = ROUTE_OF[dialect].path
    text, masked = texts(dialect, "Nightjar")
    found = running.ask(path, seed=script(running, text, dialect))
    assert found.json() == whole(masked, dialect)
    text, _ = texts(dialect, "Blue Heron")
    blocked = running.ask(path, seed=script(running, text, dialect))
    assert blocked.status_code == 200
    assert "Heron" not in blocked.text
    reason = "refusal" if ROUTE_OF[dialect].path == "/v1/messages" else "content_filter"
    assert f'"{reason}"' in blocked.text
    assert running.metric('inferry_tokens_total{deployment="chat"') - tokens == 2 * (
        PROMPT_TOKENS + COMPLETION_TOKENS
    )


def test_a_masked_stream_is_billed_by_the_engine_s_count(running: Running) -> None:
    """However much a mask adds or takes away."""
    tokens = running.metric('inferry_tokens_total{deployment="chat"')
    running.say("chat", list("a Nightjar and a Nightjar"))
    assert (
        running.metric('inferry_tokens_total{deployment="chat"') - tokens == PROMPT_TOKENS + COMPLETION_TOKENS
    )


def test_a_blocked_stream_stops_the_engine(running: Running) -> None:
    """The client has its end at once, and the engine's connection is closed, though it would go on for ever."""
    events = stream_of("chat", ["a ", "Blue ", "Heron"])[:-3]

    def asked() -> list[Seen]:
        return [seen for seen in running.upstream.seen if seen.body]

    running.engine.hangs = True
    try:
        seed = running.engine.add(SSE_HEAD, *(chunk(each) for each in events))
        answer = running.ask("/v1/chat/completions", stream=True, seed=seed)
        assert bodies_of(answer.content)[-1] == "[DONE]"
        assert ending_of("chat", answer.content) == "content_filter"
        wait_for("the engine is stopped", lambda: asked()[-1].closed.is_set(), 5.0)
    finally:
        running.engine.hangs = False


def test_without_rules_a_stream_is_the_engine_s_bytes(running: Running) -> None:
    """Odd spaces, comments, CRLF and unknown fields too."""
    odd = b': hello\r\n\r\ndata:  {"choices" :[ {"index":0,"delta":{"content":"Nightjar"} , "x":1}]}\r\n\r\n'
    for dialect in DIALECTS:
        events = stream_of(dialect, list("a Nightjar, a Blue Heron"))
        content = (odd if dialect == "chat" else b"") + b"".join(events)
        seed = running.engine.add(
            SSE_HEAD, *(chunk(content[at : at + 7]) for at in range(0, len(content), 7)), b"0\r\n\r\n"
        )
        options = {"stream_options": {"include_usage": True}} if ROUTE_OF[dialect].asks_usage else {}
        answer = running.ask(ROUTE_OF[dialect].path, "plain", stream=True, seed=seed, **options)
        assert answer.content == content, dialect


# --- others that judge --------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["judged", "guarded"])
def test_others_judge_requests_and_answers(running: Running, model: str) -> None:
    """A classifier over HTTP and a guard that is a deployment: requests, whole answers and streams pass or don't."""
    filter_name = "judge" if model == "judged" else "guard"
    say = {"role": "user", "content": "something bad"}
    refused = running.ask("/v1/chat/completions", model, messages=[say])
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
    assert f"'{filter_name}'" in refused.json()["error"]["message"]
    good = running.ask("/v1/chat/completions", model, seed=script(running, "all good"))
    assert good.json() == whole("all good")
    poor = running.ask("/v1/chat/completions", model, seed=script(running, "all bad"))
    assert poor.json()["choices"][0]["finish_reason"] == "content_filter"
    assert "bad" not in poor.text
    fine = "a good word " * 10
    assert text_of("chat", running.say("chat", list(fine), model)) == fine
    stream = running.say("chat", list(fine + "and a bad one" + fine), model)
    shown = text_of("chat", stream)
    assert ending_of("chat", stream) == "content_filter"
    assert shown == fine[: len(shown)]


@pytest.mark.parametrize("mode", ["slow", "down"])
def test_a_classifier_that_does_not_answer(running: Running, mode: str) -> None:
    """As the file says: `block` refuses requests and ends answers, `pass` lets all go on unchanged."""
    running.judge.mode = mode
    try:
        refused = running.ask("/v1/chat/completions", "judged")
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_filter")
        assert "it could not be checked" in refused.json()["error"]["message"]
        passed = running.ask("/v1/chat/completions", "lenient", seed=script(running, "all bad"))
        assert passed.json() == whole("all bad")
        assert text_of("chat", running.say("chat", ["all ", "bad"], "lenient")) == "all bad"
    finally:
        running.judge.mode = "ok"


# --- large requests -----------------------------------------------------------------------------------


def check_large(running: Running, mib: int, others_min: int) -> None:
    pids = running.up.gateway_pids()
    text = "4111 1111 1111 1112 a.b@c GB00WEST12345698765432 " * (mib * 2**20 // 49)
    seed = script(running, "Yes.")
    statuses: list[int] = []

    def ask_large() -> None:
        with httpx.Client(base_url=running.client.base_url, timeout=300) as client:
            body = {"model": "large", "messages": [{"role": "user", "content": text}], "seed": seed}
            statuses.append(client.post("/v1/chat/completions", json=body).status_code)

    before = len(running.sent())
    thread = threading.Thread(target=ask_large)
    thread.start()
    others = 0
    while thread.is_alive():
        assert running.ask("/v1/chat/completions", seed=seed).status_code == 200
        others += 1
    thread.join()
    assert statuses == [200]
    assert len(running.sent()) == before + others + 1
    assert others >= others_min
    assert running.up.gateway_pids() == pids


def test_a_large_request_does_not_hold_up_others(running: Running) -> None:
    """While 2 MiB of look-alikes of cards, addresses and accounts are looked at, the same process answers others."""
    check_large(running, 2, 10)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_huge_request_does_not_hold_up_others(running: Running) -> None:
    """The same with 32 MiB."""
    check_large(running, 32, 100)


# --- mistakes -----------------------------------------------------------------------------------------


def test_up_refuses_a_bad_pattern_before_it_starts_anything(running: Running) -> None:
    """One message that names the filter and the pattern, from the command itself; nothing was started."""
    inferry = Inferry(running.up.inferry.folder)
    path = inferry.write(
        "deployments: {chat: {engine: simulated, filters: [{name: numbers, patterns: ['(unclosed']}]}}\n",
        "bad.yaml",
    )
    refused = inferry.run("up", str(path), "--port", "0")
    assert refused.returncode == 1
    assert "'numbers'" in refused.stderr
    assert "(unclosed" in refused.stderr
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
