"""The gateway benchmark's own upstream and client: what they say can be believed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from benchmarks.gateway.cores import share_out
from benchmarks.gateway.processes import cpu_s, memory, serving, tree
from benchmarks.gateway.tools import (
    HERE,
    Load,
    Tools,
    Upstream,
    build_tools,
    compiler,
    run_load,
    run_upstream,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads Linux' /proc")
FALLBACK = [sys.executable, str(HERE / "fallback.py")]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    if compiler() is None:
        pytest.skip("there is no C compiler here")
    return build_tools(tmp_path_factory.mktemp("tools"))


@pytest.fixture(params=["C", "Python"])
def tools(request: pytest.FixtureRequest) -> Tools:
    if request.param == "Python":
        return Tools([*FALLBACK, "upstream"], [*FALLBACK, "load"], "Python")
    found: Tools = request.getfixturevalue("compiled")
    return found


@pytest.fixture
def upstream(tools: Tools) -> Iterator[Upstream]:
    with run_upstream(tools, share_out()) as running:
        running.set_interval_us(500)
        yield running


def chat(port: int, **fields: object) -> bytes:
    body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()
    request = Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 200
        text: bytes = answer.read()
        return text


def events(text: bytes) -> list[dict[str, object]]:
    *rest, last, nothing = text.decode().split("\n\n")
    assert (last, nothing) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in rest]


@pytest.mark.parametrize("name", ["upstream", "load"])
def test_sources_compile_without_a_warning(name: str, tmp_path: Path) -> None:
    """Both C programs are accepted by the compiler with its warnings on."""
    cc = compiler()
    if cc is None:
        pytest.skip("there is no C compiler here")
    command = [cc, "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(tmp_path / name), str(HERE / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_upstream_streams_as_many_events_as_tokens(upstream: Upstream) -> None:
    """One event per token of max_tokens, a finish reason in the last, and usage only for those who ask."""
    found = events(chat(upstream.ports[0], stream=True, max_tokens=7))
    assert len(found) == 7
    assert json.dumps(found[-1]).count('"finish_reason": "length"') == 1
    assert all("usage" not in event for event in found)
    asked = events(chat(upstream.ports[1], stream=True, max_tokens=7, stream_options={"include_usage": True}))
    assert len(asked) == 8
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"] == {"prompt_tokens": 50, "completion_tokens": 7, "total_tokens": 57}


def test_upstream_answers_plainly_and_counts(upstream: Upstream) -> None:
    """A plain answer has content and usage; what routers probe is answered; both endpoints count their own."""
    answer = json.loads(chat(upstream.ports[0]))
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 3
    for path in ("/health", "/v1/models", "/get_model_info", "/get_server_info"):
        with urlopen(f"http://127.0.0.1:{upstream.ports[1]}{path}", timeout=30) as probed:
            assert json.loads(probed.read())
    assert upstream.requests() == (1, 0)


@pytest.mark.parametrize("load", [Load(4, 40), Load(4, 40, rate_per_s=2000.0), Load(6, 12, stream_tokens=5)])
def test_client_counts_whole_answers(tools: Tools, upstream: Upstream, load: Load) -> None:
    """Plain, at a rate, and streaming: every answer is counted once, with its tokens, and none as failed."""
    result = run_load(tools, share_out(), upstream.ports[0], {}, load)
    assert (result.requests, result.failed, result.first_failure) == (load.requests, 0, "")
    assert result.tokens == load.requests * (load.stream_tokens or 1)
    assert 0 < result.first_p50_us <= result.p50_us <= result.p99_us <= result.max_us
    assert sum(upstream.requests()) == load.requests


def test_client_notices_a_cut_answer(tools: Tools) -> None:
    """A stream that ends too early is a failure with its reason, not a fast answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer_badly() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                    b"10\r\ndata: tok~ tok~\n\r\n0\r\n\r\n"
                )
                connection.recv(65536)

        thread = threading.Thread(target=answer_badly)
        thread.start()
        result = run_load(tools, share_out(), server.getsockname()[1], {}, Load(1, 1, stream_tokens=3))
        thread.join()
    assert (result.requests, result.failed) == (1, 1)
    assert result.first_failure == "2 tokens of 3"


def test_processes_are_found_and_counted(upstream: Upstream) -> None:
    """Who serves a port is told by its open connections; CPU time only grows, and memory is there."""
    with socket.create_connection(("127.0.0.1", upstream.ports[0])):
        chat(upstream.ports[0])
        assert serving([upstream.pid, 1], upstream.ports[0]) == [upstream.pid]
    pids = tree(upstream.pid)
    assert pids == [upstream.pid]
    before = cpu_s(pids)
    for _ in range(20):
        chat(upstream.ports[0])
    assert cpu_s(pids) > before > 0
    assert memory(pids).peak_bytes >= memory(pids).rss_bytes > 0
