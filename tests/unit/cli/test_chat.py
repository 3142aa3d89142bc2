"""`inferry chat` against a small loopback server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from .conftest import Run


def events(*pieces: str, end: bytes = b"data: [DONE]\n\n") -> bytes:
    texts = [json.dumps({"choices": [{"delta": {"content": piece}}]}) for piece in pieces]
    return b"".join(f"data: {text}\n\n".encode() for text in texts) + end


@dataclass
class ChatServer:
    """Lists `models`; answers each chat by the next of `answers` (status, body), the last one stays."""

    url: str
    models: bytes = b'{"data": [{"id": "first"}, {"id": "second"}]}'
    answers: list[tuple[int, bytes]] = field(default_factory=lambda: [(200, events("Hel", "lo."))])
    length_short: int = 0
    """So many bytes less are sent than promised."""
    seen: list[Any] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, state.models)

        def do_POST(self) -> None:
            state.seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.reply(*(state.answers.pop(0) if len(state.answers) > 1 else state.answers[0]))

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + state.length_short))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state = ChatServer(f"http://127.0.0.1:{running.server_address[1]}/v1")
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield state
        finally:
            running.shutdown()
            thread.join()


def test_one_question(run: Run, server: ChatServer) -> None:
    """A prompt on the command line gets its answer on stdout, from the first model listed."""
    shown = run("chat", "Hi?", "--url", server.url)
    assert (shown.code, shown.out, shown.err) == (0, "Hello.\n", "")
    assert server.seen == [
        {"model": "first", "stream": True, "messages": [{"role": "user", "content": "Hi?"}]}
    ]


def test_options_reach_the_model(run: Run, server: ChatServer) -> None:
    """Model, system message, temperature (also zero) and length go into the request."""
    run(
        "chat",
        "Hi?",
        "--url",
        server.url + "/",
        "-m",
        "second",
        "-s",
        "Be brief.",
        "-t",
        "0",
        "--max-tokens",
        "5",
    )
    [request] = server.seen
    assert (request["model"], request["temperature"], request["max_tokens"]) == ("second", 0.0, 5)
    assert request["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question_is_an_error(run: Run, question: str) -> None:
    """`inferry chat "$UNSET"` ends at once and says what an empty question would mean."""
    done = run("chat", question)
    assert done.code == 1
    assert "Leave it out for a conversation" in done.err


@pytest.mark.parametrize(
    ("url", "hint"),
    [("127.0.0.1:9/v1", "http://127.0.0.1:9/v1"), ("http://127.0.0.1:9", "http://127.0.0.1:9/v1?")],
)
def test_a_url_with_a_slip_is_set_right(run: Run, url: str, hint: str) -> None:
    """The two common slips in a base URL are answered with the right one."""
    done = run("chat", "hi", "--url", url)
    assert done.code == 1
    assert hint in done.err


def test_conversation_remembers(run: Run, server: ChatServer) -> None:
    """Lines from stdin are one conversation: each request holds what was said before; empty lines ask nothing."""
    server.answers = [(200, events("One.")), (200, events("Two."))]
    assert run("chat", "--url", server.url, typed="a\n\n  \nb\n").out == "One.\n\nTwo.\n"
    assert [[(m["role"], m["content"]) for m in seen["messages"]] for seen in server.seen] == [
        [("user", "a")],
        [("user", "a"), ("assistant", "One."), ("user", "b")],
    ]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b'{"error": {"message": "The model does not exist here."}}', "The model does not exist here."),
        (500, b"<h1>Oops</h1>", "<h1>Oops</h1>"),
        (200, events("Hel", end=b'data: {"error": {"message": "It broke."}}\n\n'), "It broke."),
    ],
)
def test_errors_in_the_servers_words(
    run: Run, server: ChatServer, status: int, body: bytes, message: str
) -> None:
    """An error before or inside the answer ends with exit code 1 and what the server said."""
    server.answers = [(status, body)]
    shown = run("chat", "Hi?", "--url", server.url)
    assert shown.code == 1
    assert shown.err.strip().endswith(f"error: {message}")


def test_answer_that_breaks_off(run: Run, server: ChatServer) -> None:
    """A cut connection is an error, not a short answer; what came is shown."""
    server.answers = [(200, events("Hel", end=b""))]
    server.length_short = 10
    shown = run("chat", "Hi?", "--url", server.url, "-m", "first")
    assert (shown.code, shown.out.strip()) == (1, "Hel")
    assert f"The answer from {server.url} broke off" in shown.err


def test_garbage_in_the_stream(run: Run, server: ChatServer) -> None:
    """An event that is no JSON is an error with the server's address."""
    server.answers = [(200, b"data: {oops\n\n")]
    shown = run("chat", "Hi?", "--url", server.url)
    assert shown.code == 1
    assert f"The answer from {server.url} broke off" in shown.err


@pytest.mark.parametrize("models", [b"", b"[]", b"{}", b'{"data": []}', b'{"data": null}', b'{"data": [5]}'])
def test_no_models_listed(run: Run, server: ChatServer, models: bytes) -> None:
    """Where no model is listed, one can be named."""
    server.models = models
    shown = run("chat", "Hi?", "--url", server.url)
    assert shown.code == 1
    assert "lists no models" in shown.err
    assert "Name one with --model." in shown.err


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", "nonsense", "http://[::1/v1"])
def test_nobody_there(run: Run, url: str) -> None:
    """An address where nothing answers is one message, with and without a model named."""
    for argv in (("chat", "Hi?", "--url", url), ("chat", "Hi?", "--url", url, "-m", "m")):
        shown = run(*argv)
        assert (shown.code, shown.out.strip()) == (1, "")
        assert url in shown.err
