"""A deployment file that changes while everything runs: nothing is dropped, and a bad one changes nothing."""

from __future__ import annotations

import copy
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from .inferry_process import Inferry, Up, wait_for
from .steady_load import SteadyLoad

BASE: dict[str, Any] = {
    "gateway": {"auth": "keys", "workers": 2},
    "deployments": {
        "chat": {
            "engine": "simulated",
            "replicas": 2,
            "ttft_ms": 20,
            "itl_ms": 10,
            "context_tokens": 4096,
            "rollout": {"canary_s": 0, "settle_s": 0},
        }
    },
}


class Running:
    """One `inferry up` whose file the tests change."""

    def __init__(self, inferry: Inferry, up: Up, url: str) -> None:
        self.inferry = inferry
        self.up = up
        self.url = url
        # A connection for each request, so that all gateway processes are met.
        self._client = httpx.Client(base_url=url, headers={"connection": "close"}, verify=False, timeout=30)
        self.load_key = up.new_key("load", limits={"requests_per_minute": 10**6})
        self.key = up.new_key("acme")
        self.file: dict[str, Any] = copy.deepcopy(BASE)
        for key in (self.load_key, self.key):
            wait_for("the keys are known", partial(self._is_known, key), 5.0)

    def _is_known(self, key: str) -> bool:
        return self.statuses(6, key=key) == {200: 6}

    def all_know(self, model: str) -> bool:
        return self.statuses(12, model=model) == {200: 12}

    def close(self) -> None:
        self._client.close()

    @property
    def chat(self) -> dict[str, Any]:
        chat: dict[str, Any] = self.file["deployments"]["chat"]
        return chat

    def apply(self) -> int:
        """Write the file and have it applied; its generation, once every gateway process serves it."""
        self.inferry.write(yaml.safe_dump(self.file))
        done = self.up.control("POST", "/reload")
        assert done.status_code == 200, done.text
        generation = int(done.json()["generation"])
        wait_for("both gateway processes switch", lambda: self.generations() == {generation}, 5.0)
        return generation

    def generations(self) -> set[int]:
        """What /health says over many new connections."""
        found = [self._client.get("/health") for _ in range(12)]
        assert all(
            answer.json()["generation"] == int(answer.headers["x-inferry-generation"]) for answer in found
        )
        return {int(answer.headers["x-inferry-generation"]) for answer in found}

    def ask(self, model: str = "chat", text: str = "Hello", key: str | None = None) -> httpx.Response:
        return self._client.post(
            "/v1/chat/completions",
            headers={"x-api-key": key or self.key},
            json={"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 2},
        )

    def statuses(self, count: int, **ask: Any) -> Counter[int]:
        return Counter(self.ask(**ask).status_code for _ in range(count))

    def metric(self, name: str) -> float:
        """The sum over all label values."""
        lines = self._client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    inferry = Inferry(tmp_path)
    inferry.write(yaml.safe_dump(BASE))
    with inferry.up() as up:
        running = Running(inferry, up, up.wait_ready())
        yield running
        running.close()


def test_nothing_is_dropped_by_changes_under_load(running: Running) -> None:
    """Keys, limits, prices, filters, routing, replica counts and deployments change under load: each change is in
    force once it is applied, the generation rises by one each time, and every answer is whole."""
    with SteadyLoad(running.url, running.load_key) as load:
        wait_for("answers", lambda: load.answered["stream"] > 4)
        assert running.generations() == {1}

        # A new key and a disabled one, without any change of the file.
        spare = running.up.new_key("acme", name="spare")
        wait_for("the new key is known", lambda: running.statuses(6, key=spare) == {200: 6}, 5.0)
        running.up.control("POST", "/keys/spare/disable")
        wait_for("it is dead", lambda: running.statuses(6, key=spare) == {401: 6}, 5.0)

        running.file["gateway"]["key_limits"] = {"requests_per_minute": 3}
        assert running.apply() == 2
        found = running.statuses(8)
        assert found[200] <= 4, "the limit, and one more at most"
        assert found[200] + found[429] == 8

        del running.file["gateway"]["key_limits"]
        running.file["tenants"] = {"acme": {"limits": {"prompt_tokens_max": 20}}}
        running.chat["limits"] = {"requests_in_flight": 1000}
        assert running.apply() == 3
        assert running.ask().status_code == 200
        assert running.ask(text="sea " * 400).status_code in (400, 413)

        running.file["tenants"] = {}
        running.chat["routing"] = {"policy": "round_robin"}
        running.chat["price"] = {"prompt_per_mtok": 1.0, "completion_per_mtok": 2.0}
        running.file["gateway"]["filters"] = [{"name": "no-pear", "terms": ["pear"], "on": "input"}]
        assert running.apply() == 4
        assert running.ask(text="a pear").json()["error"]["code"] == "content_filter"
        assert running.ask(text="an apple").status_code == 200
        cost = running.metric("inferry_cost_total")
        wait_for("requests cost something", lambda: running.metric("inferry_cost_total") > cost)
        status = running.up.control("GET", "/status").json()
        assert status["deployments"][0]["routing"] == "round_robin"
        assert status["generation"] == 4

        running.chat["replicas"] = 4
        running.file["deployments"]["more"] = {"engine": "simulated", "ttft_ms": 1, "itl_ms": 1}
        assert running.apply() == 5
        wait_for("four replicas", lambda: states(running.up, "chat") == ["ready"] * 4)
        wait_for("the new deployment answers", lambda: running.ask("more").status_code == 200)

        running.chat["replicas"] = 1
        del running.file["deployments"]["more"]
        assert running.apply() == 6
        assert states(running.up, "chat") == ["ready"]
        assert running.ask("more").json()["error"]["code"] == "model_not_found"
    assert load.faults == []
    assert load.generations == {1, 2, 3, 4, 5, 6}
    assert load.answered["plain"] > 20
    assert load.answered["stream"] > 10


def states(up: Up, deployment: str) -> list[str]:
    return [each["state"] for name, each in up.replicas().items() if name.startswith(f"{deployment}-")]


def test_new_engines_take_over_under_load(running: Running) -> None:
    """What engines see changes: each replica is replaced by a new one, and no answer is cut; with engines that
    can't start, all is put back, `inferry reload` says why, and the generation stays."""
    before = running.up.replicas()
    with SteadyLoad(running.url, running.load_key) as load:
        running.chat["context_tokens"] = 2048
        running.chat["parallel"] = 32
        assert running.apply() == 2
        after = running.up.replicas()
        assert set(after).isdisjoint(before)
        assert states(running.up, "chat") == ["ready"] * 2

        running.chat["parallel"] = 16
        running.chat["start_timeout_s"] = 0.01
        running.inferry.write(yaml.safe_dump(running.file))
        refused = running.inferry.run("reload")
        assert refused.returncode == 1
        assert "deployments.chat: " in refused.stderr
        assert "not ready within 0.01 s" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert set(running.up.replicas()) == set(after)
        wait_for("all is as before", lambda: running.generations() == {2}, 5.0)
        assert running.inferry.status()["generation"] == 2

        del running.chat["start_timeout_s"]
        assert running.apply() > 2
        assert set(running.up.replicas()).isdisjoint(after)
    assert load.faults == []
    assert load.answered["stream"] > 10


BAD_FILES = {
    "no YAML": ("deployments: [chat: {", ["inferry.yaml:1"]),
    "unknown key": (
        "gateway: {auth: keys, workers: 2}\ndeployments:\n  chat:\n    engine: simulated\n    replica: 2\n",
        ["inferry.yaml:5", "deployments.chat.replica", "Did you mean 'replicas'?"],
    ),
    "bad pattern": (
        "gateway:\n  auth: keys\n  workers: 2\n  filters:\n"
        "  - {name: numbers, patterns: ['(unclosed']}\n"
        "deployments:\n  chat: {engine: simulated, replicas: 2}\n",
        ["numbers", "(unclosed"],
    ),
    "other workers": (
        "gateway: {auth: keys, workers: 3}\ndeployments:\n  chat: {engine: simulated, replicas: 2}\n",
        ["gateway.workers: 2 -> 3", "inferry down"],
    ),
}


@pytest.mark.slow
def test_a_bad_file_changes_nothing_and_says_why(running: Running) -> None:
    """`inferry reload` and the terminal name what is wrong and where; generation, replicas and answers stay."""
    before = running.up.replicas()
    for name, (text, words) in BAD_FILES.items():
        running.inferry.write(text)
        refused = running.inferry.run("reload")
        assert refused.returncode == 1, name
        assert refused.stderr.count("error:") == 1
        assert "Traceback" not in refused.stderr
        for word in words:
            assert word in refused.stderr, f"{name}: {refused.stderr}"
        assert running.generations() == {1}
    running.inferry.write(BAD_FILES["unknown key"][0].replace("replica:", "replicass:"))
    wait_for("the terminal says why", lambda: "deployments.chat.replicass" in running.up.output(), 10.0)
    assert "everything goes on as before" in running.up.output()
    assert running.generations() == {1}
    assert {name: each["pid"] for name, each in running.up.replicas().items()} == {
        name: each["pid"] for name, each in before.items()
    }
    assert running.ask().status_code == 200
    # And the next good file is applied, all by itself.
    running.chat["aliases"] = ["gpt-4o"]
    running.inferry.write(yaml.safe_dump(running.file))
    wait_for("the next file is applied", lambda: running.generations() == {2}, 10.0)
    assert "aliases" in running.up.output()
    assert running.ask("gpt-4o").status_code == 200
    again = running.inferry.run("reload")
    assert (again.returncode, "Applied already, when the file was saved" in again.stdout) == (0, True)


@pytest.mark.slow
def test_a_file_that_is_written_slowly_is_not_applied_half(running: Running) -> None:
    """An editor that writes in place, in pieces: only the whole file is applied, though each piece alone is valid."""
    running.file["deployments"] = {
        name: {"engine": "simulated", "ttft_ms": 1, "itl_ms": 1} for name in ("chat", "b", "c", "d", "e")
    }
    text = yaml.safe_dump({"gateway": running.file["gateway"]}, sort_keys=False) + "deployments:\n"
    pieces = [text] + [
        f"  {name}: {{engine: simulated, ttft_ms: 1, itl_ms: 1}}\n" for name in ("chat", "b", "c", "d", "e")
    ]
    path = running.inferry.folder / "inferry.yaml"
    with path.open("w") as file:
        for piece in pieces:
            file.write(piece)
            file.flush()
            time.sleep(0.5)
    wait_for("the whole file is applied", lambda: running.generations() == {2}, 20.0)
    names = [each["name"] for each in running.up.control("GET", "/status").json()["deployments"]]
    assert names == ["chat", "b", "c", "d", "e"]
    wait_for("the terminal says so", lambda: "has changed" in running.up.output())
    assert running.up.output().count("has changed") == 1


@pytest.mark.slow
def test_a_gateway_process_that_starts_during_a_change_gets_it(running: Running) -> None:
    """Killed right before, while and after a change is applied: the next process serves the new generation, too."""
    for round_number, pause_s in enumerate((0.0, 0.1, 0.25, 0.4, 0.8, 1.2)):
        wait_for("two are there", lambda: len(running.up.gateway_pids()) == 2)
        running.chat["aliases"] = [f"round-{round_number}"]
        os.kill(running.up.gateway_pids()[0], signal.SIGKILL)
        time.sleep(pause_s)
        running.apply()
        wait_for("all know the new name", partial(running.all_know, f"round-{round_number}"), 10.0)
