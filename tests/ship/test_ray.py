"""Replicas on the nodes of a real Ray cluster: the runtimes' contract, and a whole Inferry that loses a node."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.inferry_process import Inferry, Up, wait_for

from .ray_nodes import ROOT, RayNodes, environment, ray_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COUNTING = {
    "model": "chat",
    "prompt": "1 2 3 4 5 6 7 8 9 10 11 12",
    "temperature": 0,
    "max_tokens": 300,
    "stream": True,
    "stream_options": {"include_usage": True},
}
"""At temperature 0 the sample model counts on: it is the same text wherever it is said."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("INFERRY_TEST_ENGINES")
    folder = tmp_path_factory.mktemp("engines") if kept is None else Path(kept)
    return environment(folder / "ray")


@pytest.fixture
def nodes(python: Path) -> Iterator[RayNodes]:
    """Two, each with room for one replica."""
    with ray_nodes(python, 2) as cluster:
        yield cluster


def test_the_contract_of_runtimes_holds(python: Path, tmp_path: Path) -> None:
    """Every test of the suite that all runtimes share, run where Ray is; none is skipped."""
    suite = [str(python), "-m", "pytest", "-q", "-rA", "tests/contract/test_runtimes.py", "-k", "ray"]
    done = subprocess.run(
        [*suite, "-p", "no:cacheprovider", f"--basetemp={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.findall(r"^PASSED .*\[ray\]$", done.stdout, re.M)
    claims = re.findall(r"^async def test_", (ROOT / "tests/contract/test_runtimes.py").read_text(), re.M)
    assert len(passed) == len(claims)


def file_of(nodes: RayNodes, model: Path) -> str:
    return f"""\
gateway: {{auth: none}}
runtime: {{kind: ray, address: "{nodes.address}", placement: strict_spread, lost_after_s: 3}}
deployments:
  chat:
    engine: llamacpp
    model: file:{model}
    context_tokens: 1024
    replicas: 2
    health: {{interval_s: 1}}
    restart: {{backoff_initial_s: 0.5, backoff_max_s: 2, crashes_max: 100}}
"""


def ready(up: Up, count: int, timeout_s: float = 120.0) -> dict[str, dict[str, Any]]:
    """The ready replicas, once there are so many of them."""

    def found() -> dict[str, dict[str, Any]] | None:
        assert up.process.poll() is None, up.output()
        them = {name: each for name, each in up.replicas().items() if each["state"] == "ready"}
        return them if len(them) == count else None

    try:
        return wait_for(f"{count} are ready", found, timeout_s)
    except AssertionError as error:
        error.add_note(json.dumps(up.replicas(), indent=1))
        raise


def port_of(replica: dict[str, Any]) -> int:
    return int(str(replica["url"]).rpartition(":")[2])


def counted(
    url: str, on_event: Callable[[int, str], None] = lambda count, replica: None
) -> tuple[str, list[dict[str, Any]]]:
    """The text of a whole stream, and its events. `on_event` hears of each, with where it began."""
    told: list[dict[str, Any]] = []
    with httpx.stream("POST", f"{url}/v1/completions", json=COUNTING, timeout=120, trust_env=False) as answer:
        assert answer.status_code == 200, answer.read()
        last = ""
        for line in answer.iter_lines():
            if line.startswith("data: "):
                last = line.removeprefix("data: ")
                if last != "[DONE]":
                    told.append(json.loads(last))
                    on_event(len(told), answer.headers["x-inferry-replica"])
    assert last == "[DONE]"
    return "".join(each["choices"][0]["text"] for each in told if each["choices"]), told


def test_a_node_that_dies_in_mid_stream_costs_no_word(
    nodes: RayNodes, python: Path, tmp_path: Path, sample_model: Path
) -> None:
    """The real engine on two nodes. One is killed whole while it streams: the answer goes on at the other, with the same
    words as undisturbed and one bill. There is no room for the lost replica until a node is added: then it is back. It
    is scaled by hand, too, and at the end nothing of it is left on any node."""
    inferry = Inferry(tmp_path, str(python))
    inferry.environ |= nodes.environ
    inferry.write(file_of(nodes, sample_model))
    with inferry.up() as up:
        url = up.wait_ready()
        replicas = ready(up, 2)
        homes = {name: nodes.node_of(port_of(each)) for name, each in replicas.items()}
        assert len({id(node) for node in homes.values()}) == 2
        undisturbed, _ = counted(url)
        killed: list[str] = []

        def kill(count: int, replica: str) -> None:
            if count == 50:
                killed.append(replica)
                homes[replica].kill()

        text, events = counted(url, kill)
        assert text == undisturbed
        assert len({each["id"] for each in events}) == 1
        [usage] = [each["usage"] for each in events if each.get("usage")]
        assert usage["completion_tokens"] == COUNTING["max_tokens"]
        resumes = [
            line
            for line in httpx.get(f"{url}/metrics").text.splitlines()
            if line.startswith("inferry_resumes_total{")
        ]
        assert sum(float(line.rpartition(" ")[2]) for line in resumes) == 1

        # It is known as lost, says where it was, and waits for a node that it may have.
        def waits() -> bool:
            message = str(up.replicas()[killed[0]]["message"])
            return "no node may have two replicas" in message

        wait_for("the lost one waits for room, and says so", waits, 60)
        assert counted(url)[0] == undisturbed
        nodes.nodes.remove(homes[killed[0]])
        nodes.add()
        back = ready(up, 2)[killed[0]]
        assert back["restarts"] >= 1
        assert nodes.node_of(port_of(back)) is nodes.nodes[-1]
        log = (inferry.home / "run").glob(f"*/logs/{killed[0]}.log")
        assert "[ray] node" in next(log).read_text()

        scaled = inferry.run("scale", "chat", "1", timeout_s=90)
        assert scaled.returncode == 0, scaled.stderr
        [left] = ready(up, 1)
        assert counted(url)[0] == undisturbed
        scaled = inferry.run("scale", "chat", "2", timeout_s=90)
        assert scaled.returncode == 0, scaled.stderr
        assert left in ready(up, 2)
        engines = [each for node in nodes.nodes for each in node.descendants() if is_engine(each)]
        assert len(engines) == 2
    wait_for("no engine is left", lambda: not any(each.is_running() for each in engines), 30)


def is_engine(process: psutil.Process) -> bool:
    try:
        return "inferry.engines" in " ".join(process.cmdline())
    except psutil.Error:
        return False


SCALING = """\
gateway: {{auth: none}}
runtime: {{kind: ray, address: "{address}", cpus_per_replica: 0.25}}
deployments:
  chat:
    engine: simulated
    parallel: 1
    ttft_ms: 20
    itl_ms: 20
    queue: {{waiting_max: 80}}
    health: {{interval_s: 1}}
    scaling:
      min: 1
      max: 3
      every_s: 1
      rules:
        - {{metric: running, above: 0.8, for_s: 2, add: 1}}
        - {{metric: running, below: 0.3, for_s: 3, remove: 1}}
      up: {{cooldown_s: 2}}
      down: {{stabilize_s: 1, cooldown_s: 1}}
"""


def test_the_same_policies_scale_it(nodes: RayNodes, python: Path, tmp_path: Path) -> None:
    """Load comes: up to the most, over both nodes. It goes: down to the least, with the reasons that local ones have."""
    inferry = Inferry(tmp_path, str(python))
    inferry.environ |= nodes.environ
    inferry.write(SCALING.format(address=nodes.address))
    with inferry.up() as up:
        url = up.wait_ready()
        body = {"model": "chat", "prompt": "go on", "max_tokens": 200, "stream": False}
        with httpx.Client(timeout=None, trust_env=False) as client:
            stop = threading.Event()

            def load() -> None:
                while not stop.is_set():
                    client.post(f"{url}/v1/completions", json=body)

            threads = [threading.Thread(target=load) for _ in range(6)]
            for thread in threads:
                thread.start()
            try:
                replicas = ready(up, 3)
                assert {id(nodes.node_of(port_of(each))) for each in replicas.values()} == {
                    id(each) for each in nodes.nodes
                }
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
        ready(up, 1)
        history = inferry.run("scale", "history", "chat", "--json")
        assert history.returncode == 0, history.stderr
        assert "running" in history.stdout
