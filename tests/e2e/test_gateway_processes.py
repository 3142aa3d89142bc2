"""Gateway processes and the control process: killed, stopped, drained. What is lost then, and what is not."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from .inferry_process import Inferry, Up, process_gone, wait_for

FILE = """\
gateway: {workers: 2, drain_s: DRAIN}
deployments:
  chat: {engine: simulated, replicas: 2, ttft_ms: 20, itl_ms: 20, context_tokens: 100000}
"""
QUESTION = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "ignore_eos": True}


class Stream:
    """A streamed answer on a connection of its own, read as it comes."""

    def __init__(self, url: str, tokens: int) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        body = json.dumps({**QUESTION, "stream": True, "max_tokens": tokens})
        self._connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        assert self._connection.sock is not None
        self.local: tuple[str, int] = self._connection.sock.getsockname()
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        assert self._answer.readline().startswith(b"data: ")

    def rest(self) -> str:
        """What still comes; ends with `CUT` if the connection breaks."""
        lines: list[str] = []
        try:
            while line := self._answer.readline():
                lines.append(line.decode())
        except (OSError, http.client.HTTPException):
            lines.append("CUT")
        finally:
            self._connection.close()
        return "".join(lines)


def is_whole(text: str) -> bool:
    return text.rstrip().endswith("data: [DONE]")


@pytest.fixture
def inferry(tmp_path: Path) -> Inferry:
    inferry = Inferry(tmp_path)
    inferry.write(FILE.replace("DRAIN", "20"))
    return inferry


@pytest.fixture
def up(inferry: Inferry) -> Iterator[Up]:
    with inferry.up() as up:
        yield up


def connections_of(pid: int) -> set[int]:
    """The client ports of the TCP connections that a process holds."""
    inodes = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(each.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].rpartition(":")[2], 16) for row in rows if row[9] in inodes}


def counted(url: str) -> dict[str, float]:
    """Every sample of a counter on /metrics."""
    lines = httpx.get(f"{url}/metrics", timeout=10).text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs if "_total" in name or "_count" in name}


def fallen(before: dict[str, float], after: dict[str, float]) -> dict[str, tuple[float, float | None]]:
    return {name: (value, after.get(name)) for name, value in before.items() if after.get(name, -1) < value}


def ask(url: str) -> int:
    return httpx.post(
        f"{url}/v1/chat/completions", json={**QUESTION, "max_tokens": 2}, timeout=30
    ).status_code


@pytest.mark.slow
def test_a_killed_gateway_process_costs_only_its_own_requests(up: Up, inferry: Inferry) -> None:
    """kill -9 of one of two: its streams break, the other's go on to the end; connections that waited for it and
    new ones are served; it comes back; no counter falls."""
    url = up.wait_ready()
    for _ in range(10):
        assert ask(url) == 200
    before = counted(url)
    requests_before = sum(
        each["requests"] for one in inferry.status()["deployments"] for each in one["replicas"]
    )
    streams = [Stream(url, 400) for _ in range(12)]
    victim, other = up.gateway_pids()
    mine = connections_of(victim)
    lost = [stream.local[1] in mine for stream in streams]
    assert 0 < sum(lost) < len(streams), "both processes hold some"

    # Stopped first, so that connections come to wait in its socket's queue; then killed.
    os.kill(victim, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(ask, url) for _ in range(16)]
        time.sleep(0.5)
        assert not all(each.done() for each in waiting), "some wait for the stopped process"
        os.kill(victim, signal.SIGKILL)
        assert [each.result() for each in waiting] == [200] * 16
    assert [is_whole(stream.rest()) for stream in streams] == [not each for each in lost]

    wait_for("it is back", lambda: len(up.gateway_pids()) == 2 and victim not in up.gateway_pids())
    assert other in up.gateway_pids()
    for _ in range(20):
        assert ask(url) == 200
    assert fallen(before, counted(url)) == {}
    status = inferry.status()
    assert status["status"] == "ready"
    requests = sum(each["requests"] for one in status["deployments"] for each in one["replicas"])
    assert requests >= requests_before + 20
    in_flight = sum(each["in_flight"] for one in status["deployments"] for each in one["replicas"])
    assert in_flight == 0


@pytest.mark.slow
def test_counters_never_fall_while_processes_are_killed(up: Up) -> None:
    """Four kills in a row under load: what /metrics shows only ever grows."""
    url = up.wait_ready()
    seen = counted(url)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            asked = [pool.submit(_ask_whatever_comes, url) for _ in range(40)]
            wait_for("two are there", lambda: len(up.gateway_pids()) == 2)
            victim = up.gateway_pids()[0]
            os.kill(victim, signal.SIGKILL)
            for _ in range(5):
                now = _counted_if_it_can(url)
                assert fallen(seen, now or seen) == {}
                seen = now or seen
            assert any(each.result() == 200 for each in asked)
            wait_for("it is gone", partial(process_gone, victim))


def _ask_whatever_comes(url: str) -> int:
    try:
        return ask(url)
    except httpx.HTTPError:
        return 0


def _counted_if_it_can(url: str) -> dict[str, float] | None:
    try:
        return counted(url)
    except httpx.HTTPError:
        return None


def test_gateway_processes_end_with_the_control_process(up: Up) -> None:
    """kill -9 of the control process: gateway processes and engines are gone within 5 s, and the port is free."""
    url = up.wait_ready()
    gateways = up.gateway_pids()
    engines = [each["pid"] for each in up.replicas().values()]
    stream = Stream(url, 2000)
    up.process.kill()
    up.process.wait()
    wait_for("nothing is left", lambda: all(map(process_gone, (*gateways, *engines))), 5.0)
    assert not is_whole(stream.rest())
    port_is_free(url)


def port_is_free(url: str) -> None:
    host, port = urlsplit(url).netloc.split(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, int(port)))
        probe.listen()


def is_not_ready(url: str) -> bool:
    """Whether a load balancer would send nothing more."""
    try:
        answer = httpx.get(f"{url}/health", timeout=5)
    except httpx.TransportError:
        return True
    return answer.status_code == 503 and answer.json()["status"] == "draining"


def test_sigterm_lets_streams_finish(up: Up) -> None:
    """SIGTERM: not ready any more at once, running streams of both processes come whole, then the port is free."""
    url = up.wait_ready()
    streams = [Stream(url, 150) for _ in range(8)]
    up.process.send_signal(signal.SIGTERM)
    wait_for("not ready any more", lambda: is_not_ready(url), 5.0)
    assert up.process.poll() is None
    assert all(is_whole(stream.rest()) for stream in streams)
    assert up.process.wait(20) == 0
    port_is_free(url)
    assert "Stopped" in up.output()


@pytest.mark.parametrize("how", ["drain_s is over", "a second SIGTERM"])
def test_what_cuts_a_drain_says_so_in_the_stream(inferry: Inferry, how: str) -> None:
    """A stream that is longer than drain_s, or that a second SIGTERM cuts, ends with an error event; the exit
    code is 0 and the port free. drain_s counts as the file says now, not as it said at the start."""
    with inferry.up() as up:
        url = up.wait_ready()
        if how == "drain_s is over":
            inferry.write(FILE.replace("DRAIN", "1"))
            assert up.control("POST", "/reload").status_code == 200
        streams = [Stream(url, 5000) for _ in range(6)]
        up.process.send_signal(signal.SIGTERM)
        if how == "a second SIGTERM":
            wait_for("it drains", lambda: is_not_ready(url), 5.0)
            up.process.send_signal(signal.SIGTERM)
        ends = [stream.rest().strip().splitlines()[-1] for stream in streams]
        for end in ends:
            error: dict[str, Any] = json.loads(end.removeprefix("data: "))["error"]
            assert "shutting down" in error["message"]
        assert up.process.wait(10) == 0
        port_is_free(url)


@pytest.mark.slow
def test_a_gateway_process_that_hangs_is_replaced(up: Up) -> None:
    """SIGSTOP of one of two: status and metrics go on, the file can't be changed, and after ten seconds of silence
    it is killed: whoever waited for it is served by the next one."""
    url = up.wait_ready()
    victim, _ = up.gateway_pids()
    seen = counted(url)
    os.kill(victim, signal.SIGSTOP)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(ask, url) for _ in range(12)]
        assert up.control("GET", "/status").json()["status"] == "ready"
        wait_for("it is replaced", lambda: victim not in up.gateway_pids(), 30.0)
        assert [each.result() for each in waiting] == [200] * 12
    assert process_gone(victim)
    wait_for("two are there", lambda: len(up.gateway_pids()) == 2)
    assert fallen(seen, counted(url)) == {}
    log = next(up.inferry.home.glob("run/*/inferry.jsonl")).read_text()
    assert '"event": "gateway_process_hangs"' in log
