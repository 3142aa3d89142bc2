"""Health by progress in a running Inferry: frozen, failing and saturated engines, with real processes and signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from .inferry_process import Inferry, Up, wait_for

SIMULATED = """
gateway: {workers: 1}
deployments:
  chat: {engine: simulated, replicas: 2, ttft_ms: 20, itl_ms: 20, parallel: 64, faults: true, %s}
"""
QUICK = "health: {hand_over_after_s: 1, stuck_after_s: 2}"


class Clients:
    """Streams in threads of their own; each says how it went."""

    def __init__(self, url: str, tokens: int) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._tokens = tokens
        self.endings: list[str] = []
        """`whole`, or what was wrong, of each that is over."""
        self.texts: list[str] = []
        self.served: Counter[str] = Counter()
        """Answers by the replica that began them."""
        self.begun_s: dict[str, float] = {}
        """When a replica was last given a request."""
        self._threads: list[threading.Thread] = []

    def begin(self, count: int, words: int = 1) -> None:
        for number in range(count):
            content = f"Tell me about {number}. " * words
            thread = threading.Thread(target=self._ask, args=(content,))
            self._threads.append(thread)
            thread.start()

    def finish(self) -> None:
        for thread in self._threads:
            thread.join()

    def _ask(self, content: str) -> None:
        body = {
            "model": "chat",
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
        }
        text, ending, began_s = [], "cut", time.monotonic()
        try:
            with httpx.stream("POST", self._url, json=body, timeout=300) as answer:
                replica = answer.headers.get("x-inferry-replica", "")
                if answer.status_code != 200:
                    answer.read()
                for line in answer.iter_lines():
                    if line == "data: [DONE]":
                        ending = "whole"
                    elif line.startswith("data: "):
                        event = json.loads(line[6:])
                        if "error" in event:
                            ending = str(event["error"])
                            break
                        text += [each["delta"].get("content") or "" for each in event["choices"]]
                if answer.status_code != 200:
                    ending = f"status {answer.status_code}: {answer.text}"
        except httpx.HTTPError as error:
            ending = repr(error)
        else:
            self.served[replica] += 1
            self.begun_s[replica] = max(began_s, self.begun_s.get(replica, 0.0))
        self.endings.append(ending)
        self.texts.append("".join(text))


@contextlib.contextmanager
def inferry_of(folder: Path, file: str) -> Iterator[tuple[Up, str]]:
    inferry = Inferry(folder)
    with inferry.up(str(inferry.write(file))) as up:
        yield up, up.wait_ready()


def state(up: Up, name: str) -> tuple[str, str | None, int]:
    """State, health and restarts of a replica."""
    replica = up.replicas()[name]
    return replica["state"], replica["health"], replica["restarts"]


def freeze(up: Up, name: str) -> float:
    """SIGSTOP for its process; when that was."""
    pid: int = up.replicas()[name]["pid"]
    os.kill(pid, signal.SIGSTOP)
    return time.monotonic()


def test_an_idle_engine_that_is_frozen_is_out_and_started_again(tmp_path: Path) -> None:
    """Nobody has asked it anything: it gets no new requests, and then it is killed and comes back."""
    with inferry_of(tmp_path, SIMULATED % QUICK) as (up, url):
        freeze(up, "chat-0")
        wait_for("out", lambda: state(up, "chat-0")[:2] == ("suspect", "stuck"))
        clients = Clients(url, tokens=3)
        clients.begin(6)
        clients.finish()
        assert clients.endings == ["whole"] * 6
        assert set(clients.served) == {"chat-1"}
        wait_for("back", lambda: state(up, "chat-0") == ("ready", "ok", 1))
        page = httpx.get(f"{url}/metrics").text
        assert 'inferry_replica_health{deployment="chat",replica="chat-0",verdict="ok"} 1.0' in page


@pytest.mark.slow
def test_streams_leave_a_frozen_engine_before_it_is_killed(tmp_path: Path) -> None:
    """What it had goes on at the other one: all whole, with the very words of undisturbed answers."""
    with inferry_of(tmp_path, SIMULATED % QUICK) as (up, url):
        undisturbed = Clients(url, tokens=200)
        undisturbed.begin(10)
        undisturbed.finish()
        clients = Clients(url, tokens=200)
        clients.begin(10)
        wait_for("under way", lambda: up.replicas()["chat-0"]["in_flight"] > 2)
        freeze(up, "chat-0")
        clients.finish()
        assert clients.endings == ["whole"] * 10
        assert sorted(clients.texts) == sorted(undisturbed.texts)
        assert clients.served["chat-0"] > 2
        wait_for("back", lambda: state(up, "chat-0") == ("ready", "ok", 1))


@pytest.mark.slow
def test_a_hung_core_behind_a_healthy_front_is_found(tmp_path: Path) -> None:
    """It answers probes, takes requests, and never sends a byte: its one replica is started again, and serves."""
    health = "health: {stuck_after_s: 1}"
    with inferry_of(tmp_path, SIMULATED.replace("replicas: 2", "replicas: 1") % health) as (up, url):
        address = up.replicas()["chat-0"]["url"]
        command = {"kind": "stall", "seconds": 600, "times": None}
        httpx.post(f"{address}/simulate/fault", json=command).raise_for_status()
        clients = Clients(url, tokens=5)
        clients.begin(3)
        wait_for("killed", lambda: state(up, "chat-0")[2] == 1)
        assert "it has requests and does nothing" in up.output()
        clients.finish()
        assert clients.endings == ["whole"] * 3  # at its next life


@pytest.mark.slow
def test_an_engine_that_answers_with_errors_is_set_aside(tmp_path: Path) -> None:
    """Probes go well and every request fails with 500: after failures_max of them it is asked no more."""
    breaker = "health: {breaker: {failures_max: 3, open_s: 60}}"
    with inferry_of(tmp_path, SIMULATED % breaker) as (up, url):
        address = up.replicas()["chat-0"]["url"]
        command = {"kind": "error_status", "status": 500, "times": None}
        httpx.post(f"{address}/simulate/fault", json=command).raise_for_status()
        clients = Clients(url, tokens=2)
        for _ in range(20):
            clients.begin(1)
            clients.finish()
        assert clients.endings[-10:] == ["whole"] * 10
        replica = up.replicas()["chat-0"]
        assert (replica["state"], replica["health"], replica["barred_by"]) == ("ready", "ok", 1)
        assert replica["requests"] == 3


class _StandIn(BaseHTTPRequestHandler):
    """A stand-in for an endpoint of others: it lists a model, and streams tokens until it is told to stop."""

    protocol_version = "HTTP/1.1"
    probes = 0
    stop = threading.Event()

    def do_GET(self) -> None:
        type(self).probes += 1
        self._send(b'{"object":"list","data":[]}', "application/json")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        token = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
        while not self.stop.wait(0.02):
            self.wfile.write(b"data: " + json.dumps(token).encode() + b"\n\n")
        token["choices"][0]["finish_reason"] = "stop"
        self.wfile.write(b"data: " + json.dumps(token).encode() + b"\n\ndata: [DONE]\n\n")
        self.close_connection = True

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not to the terminal."""


@pytest.mark.slow
def test_nobody_is_probed_while_tokens_flow(tmp_path: Path) -> None:
    """What the gateway hears of a stream reaches the fleet: an endpoint is asked how it is when it is idle."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _StandIn) as standin:
        serving = threading.Thread(target=standin.serve_forever)
        serving.start()
        try:
            file = f"""
deployments:
  chat:
    engine: openai
    model: m
    endpoints: ["http://127.0.0.1:{standin.server_port}/v1"]
    health: {{interval_s: 0.5}}
"""
            with inferry_of(tmp_path, file) as (up, url):
                wait_for("ready", lambda: state(up, "chat-0")[0] == "ready")
                clients = Clients(url, tokens=1)
                clients.begin(1)
                wait_for("under way", lambda: up.replicas()["chat-0"]["in_flight"] == 1)
                time.sleep(1.5)  # a probe may have been under way, and the first report is not there yet
                before = _StandIn.probes
                time.sleep(3)
                while_streaming = _StandIn.probes - before
                _StandIn.stop.set()
                clients.finish()
                assert clients.endings == ["whole"]
                assert while_streaming <= 2  # of six; one where a report comes late on a full machine
                wait_for("probed again", lambda: _StandIn.probes > before + 6)
        finally:
            _StandIn.stop.set()
            standin.shutdown()
            serving.join()


@pytest.mark.slow
def test_a_saturated_engine_stays(tmp_path: Path) -> None:
    """64 requests at an engine that computes 4 at a time, twice as long as stuck_after_s and with the quickest
    probes: never anything but ready."""
    settings = "health: {interval_s: 0.1, timeout_s: 0.1, stuck_after_s: 5}, queue: {running_max: 64}"
    file = SIMULATED.replace("parallel: 64", "parallel: 4").replace("replicas: 2", "replicas: 1") % settings
    with inferry_of(tmp_path, file) as (up, url):
        clients = Clients(url, tokens=30)
        clients.begin(64)
        seen: set[Any] = set()
        while len(clients.endings) < 64:
            seen.add(state(up, "chat-0"))
            time.sleep(0.1)
        clients.finish()
        assert clients.endings == ["whole"] * 64
        assert {each[0] for each in seen} == {"ready"}
        assert {each[2] for each in seen} == {0}
        assert "busy" in {each[1] for each in seen}


# --- real llama.cpp ---------------------------------------------------------------------------------------

LLAMACPP = """
gateway: {workers: 1}
deployments:
  chat: {engine: llamacpp, model: "file:%s", replicas: %d, threads: 1, parallel: 4, context_tokens: 4096, %s}
"""


@pytest.mark.slow
@pytest.mark.engine
def test_a_frozen_llamacpp_loses_no_stream(tmp_path: Path, sample_model: Path) -> None:
    """SIGSTOP under four streams on two engines: out within 3 s, all streams whole, the engine started again."""
    with inferry_of(tmp_path, LLAMACPP % (sample_model, 2, "health: {stuck_after_s: 5}")) as (up, url):
        clients = Clients(url, tokens=300)
        clients.begin(4)
        wait_for("under way", lambda: up.replicas()["chat-0"]["in_flight"] > 0)
        frozen_s = freeze(up, "chat-0")
        wait_for("suspect", lambda: state(up, "chat-0")[0] == "suspect")
        assert time.monotonic() - frozen_s < 3
        clients.finish()
        assert clients.endings == ["whole"] * 4
        wait_for("back", lambda: state(up, "chat-0") == ("ready", "ok", 1), 60)


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(300)
def test_a_saturated_llamacpp_stays(tmp_path: Path, sample_model: Path) -> None:
    """One thread, long prompts, 16 requests at a time, for ten times stuck_after_s: never anything but ready."""
    settings = "health: {interval_s: 0.2, timeout_s: 0.2, stuck_after_s: 1.5}, queue: {running_max: 16}"
    with inferry_of(tmp_path, LLAMACPP % (sample_model, 1, settings)) as (up, url):
        clients = Clients(url, tokens=20)
        seen: set[Any] = set()
        ends_s = time.monotonic() + 15
        while time.monotonic() < ends_s:
            if up.replicas()["chat-0"]["in_flight"] < 16:
                clients.begin(8, words=30)
            seen.add(state(up, "chat-0"))
            time.sleep(0.2)
        clients.finish()
        assert set(clients.endings) == {"whole"}
        assert {(each[0], each[2]) for each in seen} == {("ready", 0)}
