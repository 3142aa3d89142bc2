"""Replicas killed at random under plain requests, and under streams that have not begun. What becomes of streams that
have is in test_failover.py. The seed is printed; set INFERRY_CHAOS_SEED to repeat a run."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.e2e.inferry_process import Inferry, Up, process_gone, wait_for

pytestmark = pytest.mark.slow

KILLS = 12


class Load:
    """Clients that ask again and again until told to stop, and note how each answer ended."""

    def __init__(self, url: str, body: dict[str, object], clients: int) -> None:
        self.endings: Counter[str] = Counter()
        self._url = url
        self._body = body
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask_forever, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Counter[str]:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "an answer never ended"
        return self.endings

    def _ask_forever(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self._stop.is_set():
                try:
                    self.endings[self._ask(client)] += 1
                except httpx.HTTPError as error:
                    self.endings[f"transport: {type(error).__name__}"] += 1

    def _ask(self, client: httpx.Client) -> str:
        with client.stream("POST", f"{self._url}/v1/chat/completions", json=self._body) as answer:
            if answer.status_code != 200:
                answer.read()
                return f"{answer.status_code} {answer.json()['error']['message']}"
            if not self._body.get("stream"):
                answer.read()
                return "whole" if answer.json()["choices"][0]["message"]["content"] else "empty"
            finished = False
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line[6:])  # a broken event would raise: none may reach a client
                    if "error" in event:
                        return f"error event: {event['error']['code']}"
                    finished |= any(choice.get("finish_reason") for choice in event["choices"])
            return "whole" if finished else "ended without a finish"


def _kill_and_wait(up: Up, dice: random.Random, number: signal.Signals = signal.SIGKILL) -> None:
    """Kill one random ready replica and wait until it is back."""
    ready = {key: each for key, each in up.replicas().items() if each["state"] == "ready"}
    victim = dice.choice(sorted(ready))
    os.kill(ready[victim]["pid"], number)
    wait_for(
        f"{victim} is back",
        lambda: bool(
            (now := up.replicas()[victim])["state"] == "ready" and now["restarts"] > ready[victim]["restarts"]
        ),
        60.0,
    )


def _counted(url: str) -> Counter[str]:
    """Requests by ending, as the gateway counted them."""
    counts: Counter[str] = Counter()
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith("inferry_requests_total{"):
            counts[line.partition('ending="')[2].partition('"')[0]] += int(float(line.rpartition(" ")[2]))
    return counts


@pytest.mark.timeout(300)
def test_plain_answers_survive_kills_of_simulated_replicas(tmp_path: Path, dice: random.Random) -> None:
    """Four simulated replicas, one killed again and again: every plain request is answered whole."""
    inferry = Inferry(tmp_path)
    inferry.write(
        "gateway: {attempts_max: 10}\n"
        "deployments:\n  chat:\n    engine: simulated\n    replicas: 4\n    ttft_ms: 20\n    itl_ms: 2\n"
        "    restart: {crashes_max: 1000, backoff_initial_s: 0.1, backoff_max_s: 0.2}\n"
    )
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 30}
    with inferry.up() as up:
        url = up.wait_ready()
        load = Load(url, body, clients=16)
        for _ in range(KILLS):
            _kill_and_wait(up, dice)
        endings = load.stop()
        assert endings.keys() == {"whole"}, endings
        assert _counted(url) == {"completed": endings["whole"]}


@pytest.mark.timeout(300)
def test_streams_that_have_not_begun_survive_kills(tmp_path: Path, dice: random.Random) -> None:
    """A replica killed while it computes prompts costs none of its streams: the others take them, whole."""
    inferry = Inferry(tmp_path)
    inferry.write(
        "gateway: {attempts_max: 10}\n"
        "deployments:\n  chat:\n    engine: simulated\n    replicas: 4\n    ttft_ms: 500\n    itl_ms: 1\n"
        "    restart: {crashes_max: 1000, backoff_initial_s: 0.1, backoff_max_s: 0.2}\n"
    )
    body: dict[str, object] = {
        "model": "chat",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 1,
        "stream": True,
    }
    with inferry.up() as up:
        url = up.wait_ready()
        load = Load(url, body, clients=16)
        for _ in range(KILLS):
            _kill_and_wait(up, dice)
        endings = load.stop()
        assert endings.keys() == {"whole"}, endings
        assert _counted(url) == {"completed": endings["whole"]}


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_real_engines_survive_kills(tmp_path: Path, sample_model: Path, dice: random.Random) -> None:
    """Two llama.cpp replicas, killed in turn: plain requests are all answered, and nothing is left behind."""
    inferry = Inferry(tmp_path)
    inferry.write(
        # Replicas die faster here than an answer is computed: a request may meet several kills.
        "gateway: {attempts_max: 10}\n"
        f"deployments:\n  chat:\n    engine: llamacpp\n    model: file:{sample_model}\n    replicas: 2\n"
        "    context_tokens: 512\n    restart: {crashes_max: 1000, backoff_initial_s: 0.1, backoff_max_s: 0.2}\n"
    )
    body = {
        "model": "chat",
        "messages": [{"role": "user", "content": "Name three colors."}],
        "max_tokens": 12,
    }
    pids: set[int] = set()
    with inferry.up() as up:
        url = up.wait_ready()
        load = Load(url, body, clients=4)
        for _ in range(KILLS):
            pids |= {each["pid"] for each in up.replicas().values() if each["pid"]}
            _kill_and_wait(up, dice, dice.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
        endings = load.stop()
        pids |= {each["pid"] for each in up.replicas().values() if each["pid"]}
        assert endings.keys() == {"whole"}, endings
    assert all(process_gone(pid) for pid in pids)
    assert len(pids) == 2 + KILLS


@pytest.mark.timeout(120)
def test_when_all_replicas_die_clients_are_told_and_service_returns(tmp_path: Path) -> None:
    """Both replicas killed at once: clear 502 or 503 with Retry-After until they are back, then answers."""
    inferry = Inferry(tmp_path)
    inferry.write("deployments:\n  chat: {engine: simulated, replicas: 2, ttft_ms: 5, itl_ms: 1}\n")
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    with inferry.up() as up:
        url = up.wait_ready()
        for replica in up.replicas().values():
            os.kill(replica["pid"], signal.SIGKILL)
        refused = []

        def answered() -> bool:
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
            if answer.status_code != 200:
                assert answer.status_code in (502, 503)
                assert int(answer.headers["retry-after"]) >= 1
                refused.append(answer.json()["error"]["code"])
            return answer.status_code == 200

        wait_for("answers again", answered)
        assert refused
        assert httpx.get(f"{url}/health").status_code == 200
