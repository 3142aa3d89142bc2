"""Models on demand and replicas on standby, with the `inferry` command and simulated engines."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from .inferry_process import Inferry, Up, wait_for

ONE_AT_A_TIME = """
gateway: {workers: 2}
host: {memory_budget: 1GiB}
deployments:
  a: {engine: simulated, load: on_demand, memory: 1GiB, loaded_min_s: 0, ttft_ms: 5, itl_ms: 2, faults: true}
  b: {engine: simulated, load: on_demand, memory: 1GiB, loaded_min_s: 0, ttft_ms: 5, itl_ms: 2}
  c: {engine: simulated, load: on_demand, memory: 1GiB, loaded_min_s: 0, ttft_ms: 5, itl_ms: 2}
  hasty: {engine: simulated, load: on_demand, memory: 1GiB, load_wait_s: 0.2, idle_unload_s: 1}
"""


class Swapping:
    """One `inferry up` with room for one of its four models."""

    def __init__(self, inferry: Inferry, up: Up, url: str) -> None:
        self.inferry = inferry
        self.up = up
        # A connection for each request, so that both gateway processes are met.
        self._client = httpx.Client(base_url=url, headers={"connection": "close"}, timeout=60)

    def ask(self, model: str, tokens: int = 4) -> httpx.Response:
        return self._client.post(
            "/v1/chat/completions",
            json={
                "model": model,
                "messages": [{"role": "user", "content": "Hello"}],
                "max_tokens": tokens,
                "temperature": 0,
            },
        )

    def state(self, name: str) -> str:
        status = self.up.control("GET", "/status").json()
        return next(str(each["load"]["state"]) for each in status["deployments"] if each["name"] == name)

    def engines(self) -> list[int]:
        """The simulated engines that run now."""
        pids = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            ours = str(self.inferry.home).encode() in text
            if b"inferry.testing.simulated_engine" in text and ours and state != "Z":
                pids.append(int(folder.name))
        return pids

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def swapping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swapping]:
    inferry = Inferry(tmp_path_factory.mktemp("swap"))
    inferry.write(ONE_AT_A_TIME)
    with inferry.up() as up:
        swapping = Swapping(inferry, up, up.wait_ready())
        yield swapping
        swapping.close()


def test_nothing_is_loaded_before_it_is_asked_for(swapping: Swapping) -> None:
    """`up` starts no engine and is ready at once; `status` says how each model is loaded, and /health is well."""
    assert swapping.engines() == []
    shown = swapping.inferry.run("status").stdout
    assert "a: unloaded: loads with the first request, or by: inferry load a" in shown
    assert "loaded on demand" in swapping.up.output()
    health = swapping._client.get("/health").json()
    assert (health["status"], health["deployments"]["a"]["status"]) == ("ready", "unloaded")


@pytest.mark.slow
def test_three_models_in_turn_on_room_for_one(swapping: Swapping) -> None:
    """Each request waits for its model and is answered by it; the same replica ids come back, so that metrics and
    logs don't grow with each swap."""
    for model in ("a", "b", "c", "a", "b"):
        answer = swapping.ask(model)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-inferry-replica"] == f"{model}-0"
        assert answer.json()["usage"]["completion_tokens"] == 4


@pytest.mark.slow
def test_nobody_is_lost_when_all_are_asked_for_at_once(swapping: Swapping) -> None:
    """Ninety requests to three models together: every one is answered in full, and never do two engines live at the
    same time."""
    most = 0
    over = threading.Event()

    def count_engines() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, len(swapping.engines()))

    counting = threading.Thread(target=count_engines)
    counting.start()
    with ThreadPoolExecutor(90) as pool:
        answers = list(pool.map(swapping.ask, "abc" * 30, [20] * 90))
    over.set()
    counting.join()
    assert Counter(answer.status_code for answer in answers) == {200: 90}
    assert {answer.json()["usage"]["completion_tokens"] for answer in answers} == {20}
    assert most == 1


def test_a_model_that_comes_too_late_is_an_honest_503(swapping: Swapping) -> None:
    """Who may wait for a fifth of a second hears that it was not enough, what it waited for, and when to come
    again; the model is loaded all the same, and leaves when nobody asks for it."""
    swapping.ask("a")
    late = swapping.ask("hasty")
    assert late.status_code == 503
    error = late.json()["error"]
    assert error["code"] == "model_not_loaded"
    assert "was not loaded within 0.2 s" in error["message"]
    assert int(late.headers["retry-after"]) >= 1
    wait_for("it is loaded by the next ones", lambda: swapping.ask("hasty").status_code == 200)
    wait_for("it leaves by itself", lambda: swapping.state("hasty") == "unloaded")


def test_an_engine_that_dies_is_waited_for(swapping: Swapping) -> None:
    """The model was loaded, its engine is killed, and the next request is answered by the one that is started
    again."""
    swapping.ask("a")
    [pid] = swapping.engines()
    os.kill(pid, signal.SIGKILL)
    wait_for("it is gone", lambda: pid not in swapping.engines())
    assert swapping.ask("a").status_code == 200


def test_an_ollama_client_loads_a_model_as_it_is_used_to(swapping: Swapping) -> None:
    """By a request without a prompt, which is answered when the model is there."""
    answer = swapping._client.post("/api/generate", json={"model": "b"})
    assert (answer.status_code, answer.json()["done_reason"]) == (200, "load")
    assert swapping.state("b") == "loaded"


@pytest.mark.slow
def test_by_hand(swapping: Swapping) -> None:
    """`inferry load` and `unload` do what they say, or say why not."""
    done = swapping.inferry.run("load", "c")
    assert (done.returncode, done.stdout) == (0, "'c' is loaded.\n")
    assert swapping.state("c") == "loaded"
    assert swapping.inferry.run("unload", "c").stdout.startswith("'c' is unloaded.")
    again = swapping.up.control("POST", "/deployments/c/unload")
    assert (again.status_code, again.json()["error"]["message"]) == (409, "'c' is not loaded.")
    unknown = swapping.up.control("POST", "/deployments/d/load")
    assert (unknown.status_code, "no deployment 'd'" in unknown.json()["error"]["message"]) == (404, True)


@pytest.mark.slow
def test_a_standby_answers_before_its_predecessor_is_back(tmp_path: Path) -> None:
    """kill -9 for the only replica that serves: the request that comes then is answered by the standby, while the
    killed one's engine has not even started again; and that one stands by from then on."""
    inferry = Inferry(tmp_path)
    inferry.write(
        "deployments:\n  chat: {engine: simulated, standby: 1, ttft_ms: 5, restart: {backoff_initial_s: 1}}\n"
    )

    def replicas() -> dict[str, dict[str, Any]]:
        return up.replicas()

    with inferry.up() as up:
        url = up.wait_ready()
        found = replicas()
        assert Counter(each["state"] for each in found.values()) == {"ready": 1, "standby": 1}
        serving = next(name for name, each in found.items() if each["state"] == "ready")
        other = next(name for name in found if name != serving)
        with httpx.Client(base_url=url, timeout=30) as client:
            body = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
            before = client.post("/v1/chat/completions", json=body)
            assert before.headers["x-inferry-replica"] == serving
            os.kill(found[serving]["pid"], signal.SIGKILL)
            after = client.post("/v1/chat/completions", json=body)
            assert (after.status_code, after.headers["x-inferry-replica"]) == (200, other)
            assert replicas()[serving]["state"] == "pending"
            assert client.get("/health").json()["deployments"]["chat"]["status"] == "ready"
        wait_for("the killed one stands by", lambda: replicas()[serving]["state"] == "standby")
        assert replicas()[other]["state"] == "ready"


@pytest.mark.slow
def test_two_real_models_on_room_for_one(tmp_path: Path, sample_model: Path) -> None:
    """llama.cpp: asked in turn, each is loaded for the other, and both say the same, as it is the same file."""
    inferry = Inferry(tmp_path)
    model = f"engine: llamacpp, model: 'file:{sample_model}', load: on_demand, loaded_min_s: 0"
    inferry.write(
        "host: {memory_budget: 600MiB}\n"
        f"deployments:\n  one: {{{model}, memory: 520MiB}}\n  two: {{{model}, memory: 520MiB}}\n"
    )
    with inferry.up() as up:
        swapping = Swapping(inferry, up, up.wait_ready())

        def text(name: str) -> str:
            answer = swapping.ask(name, 8)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["message"]["content"])

        assert len({text(name) for name in ("one", "two", "one", "two")}) == 1
        assert (swapping.state("one"), swapping.state("two")) == ("unloaded", "loaded")
        swapping.close()
