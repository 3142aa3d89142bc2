"""Names over several deployments, as `inferry up` serves them with simulated engines: 90 to 10, a canary that dies,
a shadow that nobody pays for."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from .inferry_process import Inferry, Up, wait_for

FILE = """\
gateway: {auth: keys, workers: 1}
deployments:
  v1: {engine: simulated, ttft_ms: 1, itl_ms: 1, price: {prompt_per_mtok: 1, completion_per_mtok: 1}}
  v2: {engine: simulated, ttft_ms: 1, itl_ms: 1, restart: {backoff_initial_s: 300, backoff_max_s: 300}}
  new: {engine: simulated, ttft_ms: 300, itl_ms: 1, price: {prompt_per_mtok: 9, completion_per_mtok: 9}}
names:
  chat:
    split: [{deployment: v1, weight: 90}, {deployment: v2, weight: 10}]
    fallbacks: [v1]
  paid:
    split: [{deployment: v1}]
    shadow: [{deployment: new, concurrent_max: 100}]
"""
REQUESTS = 1000


class Running:
    def __init__(self, inferry: Inferry, up: Up, url: str) -> None:
        self.inferry = inferry
        self.up = up
        self.key = up.new_key("acme")
        self._client = httpx.Client(base_url=url, headers={"x-api-key": self.key}, timeout=30)
        wait_for("the key is known", lambda: self.ask("v1").status_code == 200)

    def ask(self, model: str, **body: Any) -> httpx.Response:
        content = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, **body}
        return self._client.post("/v1/chat/completions", json=content)

    def ask_all(self, model: str, count: int) -> Counter[str]:
        """Deployments by how often they answered, of `count` requests, eight at a time; all must be answered."""
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: self.ask(model), range(count)))
        assert {each.status_code for each in answers} == {200}
        return Counter(each.headers["x-inferry-deployment"] for each in answers)

    def usage(self, model: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Sums by tenant and deployment, of what was asked for by that name."""
        done = self.inferry.run("usage", "--by", "tenant,deployment", "--model", model, "--json")
        assert done.returncode == 0, done.stderr
        return {(row["tenant"], row["deployment"]): row for row in json.loads(done.stdout)["rows"]}

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("names")
    inferry = Inferry(folder)
    inferry.write(FILE)
    with inferry.up() as up:
        running = Running(inferry, up, up.wait_ready())
        yield running
        running.close()


def test_a_thousand_requests_are_nine_hundred_and_a_hundred(running: Running) -> None:
    """Whatever the order in which they come: exact, since the weights add up to a divisor of a thousand."""
    assert running.ask_all("chat", REQUESTS) == {"v1": 900, "v2": 100}


def test_a_shadow_is_on_no_callers_bill(running: Running) -> None:
    """Ten requests cost the caller what ten requests cost; the copies stand under the tenant `shadow`."""
    for _ in range(10):
        assert running.ask("paid").status_code == 200

    def copied() -> bool:
        shadow = running.up.replicas()["new-0"]
        return bool(shadow["requests"] == 10 and shadow["in_flight"] == 0)

    wait_for("all copies are answered", copied)
    usage = running.usage("paid")
    assert set(usage) == {("acme", "v1"), ("shadow", "new")}
    mine, copies = usage["acme", "v1"], usage["shadow", "new"]
    assert (mine["completed"], copies["completed"]) == (10, 10)
    assert mine["prompt_tokens"] == copies["prompt_tokens"] > 0
    assert mine["completion_tokens"] == copies["completion_tokens"] == 20
    tokens = mine["prompt_tokens"] + mine["completion_tokens"]
    assert (float(mine["cost"]), float(copies["cost"])) == (tokens / 1e6, 9 * tokens / 1e6)


def test_a_canary_that_dies_takes_no_answer_with_it(running: Running) -> None:
    """Its only replica is killed and does not come back: the fallback answers its share, and nobody sees an error."""
    os.kill(running.up.replicas()["v2-0"]["pid"], signal.SIGKILL)
    found = running.ask_all("chat", 200)
    assert found == {"v1": 200}
    told = {running.ask("chat").headers.get("x-inferry-fallback") for _ in range(10)}
    assert told == {None, "v2 (no_ready_replica)"}


def test_the_file_takes_the_canary_out(running: Running) -> None:
    """Weight 0, while everything runs: nobody is sent there any more, and nobody has to fall back."""
    running.inferry.write(FILE.replace("weight: 10}", "weight: 0}"))
    assert running.up.control("POST", "/reload").json()["generation"] == 2

    def applied() -> bool:
        return running.ask("chat").headers["x-inferry-generation"] == "2"

    wait_for("the gateway serves by it", applied)
    answers = [running.ask("chat") for _ in range(20)]
    assert {each.headers["x-inferry-deployment"] for each in answers} == {"v1"}
    assert not any("x-inferry-fallback" in each.headers for each in answers)
