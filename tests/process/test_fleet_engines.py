"""The fleet with real engines: llama.cpp on the sample model, and the simulated engine."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from inferry.core.clock import SystemClock
from inferry.core.deployment import Deployment
from inferry.core.deployment_base import Restart
from inferry.core.health_settings import Health
from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.core.replica import Endpoint, ReplicaState, ReplicaView
from inferry.core.rollout_settings import Rollout
from inferry.engines.registry import adapter_for
from inferry.fleet.fleet import DeploymentPlan, Fleet
from inferry.runtime.local import LocalRuntime

from .children import holds_within, is_alive

SAMPLE = os.environ.get("INFERRY_SAMPLE_MODEL", "")
needs_xllamacpp = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="the extra 'local' (xllamacpp) is not installed"
)
needs_sample = pytest.mark.skipif(
    not Path(SAMPLE).is_file(), reason="INFERRY_SAMPLE_MODEL does not name the sample model's file"
)


@asynccontextmanager
async def fleet_of(
    tmp_path: Path, deployment: Deployment, model_path: Path | None
) -> AsyncIterator[tuple[Fleet, list[ReplicaView]]]:
    """A running fleet of one deployment, and the list of all that it published."""
    views: list[ReplicaView] = []
    runtime = LocalRuntime(tmp_path / "logs")
    plan = DeploymentPlan("chat", deployment, adapter_for("chat", deployment), model_path)
    fleet = Fleet([plan], runtime, SystemClock(), random.Random(1), views.append, os.environ)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.run())
            try:
                yield fleet, views
            finally:
                await fleet.stop()
    finally:
        await runtime.close()


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not fact():
            await asyncio.sleep(0.01)


async def ask(endpoint: Endpoint, path: str, body: dict[str, object], key: bool = True) -> tuple[int, str]:
    """Status and body of a POST."""

    def send() -> tuple[int, str]:
        request = urllib.request.Request(
            endpoint.url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **(dict(endpoint.headers) if key else {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(send)


def endpoint_of(view: ReplicaView) -> Endpoint:
    assert view.endpoint is not None
    return view.endpoint


async def test_simulated_replicas_live_die_and_return(tmp_path: Path) -> None:
    """Two simulated engines come up; one that is killed leaves ready at once and comes back; all end politely."""
    deployment = SimulatedDeployment(
        engine="simulated", replicas=2, ttft_ms=0, itl_ms=0, restart=Restart(backoff_initial_s=0.05)
    )
    async with fleet_of(tmp_path, deployment, None) as (fleet, _):
        await fleet.wait_settled()
        assert fleet.failures() == []
        pids = [view.pid for view in fleet.views()]
        assert pids[0] is not None
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: fleet.views()[0].state is not ReplicaState.READY)
        await until(lambda: fleet.views()[0].state is ReplicaState.READY)
        assert (fleet.views()[0].restarts, fleet.views()[1].restarts) == (1, 0)
        assert fleet.views()[0].pid != pids[0]
        last = [view.pid for view in fleet.views() if view.pid is not None]
    assert not any(map(is_alive, last))
    assert [view.state.value for view in fleet.views()] == ["stopped", "stopped"]


async def test_a_fleet_changes_under_load(tmp_path: Path) -> None:
    """One replica becomes three, then one, and then one with another engine setting, while requests never pause:
    not one of them fails, and no process is left over."""
    in_flight: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    used: set[str] = set()
    enough = asyncio.Event()

    def simulated(replicas: int, itl_ms: float = 1) -> list[DeploymentPlan]:
        deployment = SimulatedDeployment(
            engine="simulated",
            replicas=replicas,
            ttft_ms=1,
            itl_ms=itl_ms,
            rollout=Rollout(canary_s=0, settle_s=0.2),
        )
        return [DeploymentPlan("chat", deployment, adapter_for("chat", deployment))]

    async def client(fleet: Fleet) -> None:
        question: dict[str, object] = {"model": "chat", "prompt": "hello", "max_tokens": 20}
        while not enough.is_set():
            ready = [view for view in fleet.views() if view.state is ReplicaState.READY]
            view = min(ready, key=lambda view: in_flight[view.id])
            in_flight[view.id] += 1
            try:
                status, _ = await ask(endpoint_of(view), "/v1/completions", question)
            finally:
                in_flight[view.id] -= 1
            statuses[status] += 1
            used.add(view.id)

    views: list[ReplicaView] = []
    gone: list[str] = []
    runtime = LocalRuntime(tmp_path / "logs")
    fleet = Fleet(
        simulated(1), runtime, SystemClock(), random.Random(1), views.append, os.environ, on_gone=gone.append
    )
    fleet.set_in_flight(lambda replica_id: in_flight[replica_id])
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fleet.run())
            try:
                await fleet.wait_settled()
                async with asyncio.TaskGroup() as clients:
                    for _ in range(4):
                        clients.create_task(client(fleet))
                    try:
                        assert await fleet.apply(simulated(3)) == {}
                        await until(lambda: used >= {"chat-0", "chat-1", "chat-2"})
                        assert await fleet.apply(simulated(1)) == {}
                        assert [view.id for view in fleet.views()] == ["chat-0"]
                        assert await fleet.apply(simulated(1, itl_ms=2)) == {}
                        assert [view.id for view in fleet.views()] == ["chat-3"]
                        await until(lambda: "chat-3" in used)
                    finally:
                        enough.set()
                assert gone[:2] in (["chat-1", "chat-2"], ["chat-2", "chat-1"])
                assert gone[2:] == ["chat-0"]
                assert [handle.replica_id for handle in runtime.running()] == ["chat-3"]
            finally:
                await fleet.stop()
    finally:
        await runtime.close()
    assert set(statuses) == {200}
    assert statuses[200] > 10
    assert not any(is_alive(view.pid) for view in views if view.pid is not None)


async def test_a_frozen_engine_becomes_suspect_without_a_question(tmp_path: Path) -> None:
    """A process that lives and does nothing is found out by its state, though its probes are a minute apart."""
    health = Health(interval_s=60, timeout_s=0.2)
    deployment = SimulatedDeployment(engine="simulated", ttft_ms=0, itl_ms=0, health=health)
    async with fleet_of(tmp_path, deployment, None) as (fleet, _):
        await fleet.wait_settled()
        pid = fleet.views()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: fleet.views()[0].state is ReplicaState.SUSPECT)
        assert "stopped by a signal" in fleet.views()[0].message
        assert fleet.views()[0].pid == pid


@needs_xllamacpp
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "can't be read"), (b"hello", "is not a GGUF file"), (b"GGUF" + b"\0" * 64, "could not load")],
)
async def test_a_broken_model_is_given_up_at_once(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """A model file that is missing, something else, or broken: one attempt, one message that names the file."""
    model = tmp_path / "model.gguf"
    if content is not None:
        model.write_bytes(content)
    deployment = LlamaCppDeployment(engine="llamacpp", model=f"file:{model}")
    async with fleet_of(tmp_path, deployment, model) as (fleet, views):
        await fleet.wait_settled()
        (failure,) = fleet.failures()
        assert reason in failure.splitlines()[0]
        assert str(model) in failure
        # Not by pids: one that ends before anything else is told of it never shows its own.
        states = [view.state for view in views]
        starts = [now for before, now in pairwise([None, *states]) if now != before]
        assert starts.count(ReplicaState.STARTING) == 1
        assert len({view.pid for view in views if view.pid is not None}) <= 1


@needs_xllamacpp
@needs_sample
@pytest.mark.engine
async def test_llamacpp_serves_dies_and_returns(tmp_path: Path) -> None:
    """The embedded llama.cpp loads the sample, answers with its key only, is counted, and survives kill -9."""
    deployment = LlamaCppDeployment(
        engine="llamacpp",
        model=f"file:{SAMPLE}",
        context_tokens=512,
        parallel=2,
        health=Health(interval_s=0.2, timeout_s=5),
        restart=Restart(backoff_initial_s=0.05),
    )
    question: dict[str, object] = {
        "model": "chat",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 16,
        "temperature": 0,
    }
    async with fleet_of(tmp_path, deployment, Path(SAMPLE)) as (fleet, _):
        await fleet.wait_settled()
        assert fleet.failures() == []
        for life in range(2):
            view = fleet.views()[0]
            status, body = await ask(endpoint_of(view), "/v1/chat/completions", question)
            assert status == 200
            assert json.loads(body)["usage"]["completion_tokens"] >= 5
            assert json.loads(body)["choices"][0]["message"]["content"]
            status, _ = await ask(endpoint_of(view), "/v1/chat/completions", question, key=False)
            assert status == 401
            await until(lambda: (fleet.views()[0].tokens_generated or 0) >= 5)
            if life == 0:
                assert view.pid is not None
                os.kill(view.pid, signal.SIGKILL)
                await until(lambda: fleet.views()[0].state is not ReplicaState.READY)
                await until(lambda: fleet.views()[0].state is ReplicaState.READY)
                assert fleet.views()[0].restarts == 1


def child(model: str, port: int) -> list[str]:
    flags = {
        "--model": model,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--alias": "chat",
        "--context-tokens": "512",
        "--parallel": "1",
        "--threads": "1",
    }
    words = [word for pair in flags.items() for word in pair]
    return [sys.executable, "-P", "-m", "inferry.engines.llamacpp_child", *words]


@needs_xllamacpp
@needs_sample
@pytest.mark.engine
def test_llamacpp_child_says_that_its_port_is_taken() -> None:
    """A taken port is one clear line and an exit code that says: try again elsewhere."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = subprocess.run(
            child(SAMPLE, taken.getsockname()[1]), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 75
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("inferry: ")]
    assert "is taken" in line
    assert "Traceback" not in done.stderr


@needs_xllamacpp
@needs_sample
@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_llamacpp_child_ends_politely(number: signal.Signals) -> None:
    """Asked to end, a serving child does so at once, with exit code 0 and nothing to say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        child(SAMPLE, port), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert "serving" in process.stdout.readline()
        process.send_signal(number)
        assert holds_within(2, lambda: process.poll() is not None)
        assert process.returncode == 0
        assert process.stdout.read() == ""
