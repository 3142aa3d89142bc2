"""Prompts of the bench have exactly the lengths that were asked for, as the engine itself counts them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferry.bench.fitting import fit_wording
from inferry.bench.plan import Api, Constant, Lengths, RunPlan, Sessions, Synthetic, Target, Workload
from inferry.bench.server_count import ServerCount
from inferry.bench.workload import asks
from inferry.core.local_engines import LlamaCppDeployment
from inferry.engines.llamacpp import LlamaCppAdapter
from inferry.testing.simulated_app import Options
from inferry.testing.simulated_server import SimulatedServer

from .engine_cases import NAME
from .test_engine_http import Running, start

KEY_VARIABLE = "BENCH_LENGTHS_KEY"
PREFIXED = Synthetic(
    input_tokens=Lengths(mean=90, spread="uniform", deviation=60),
    output_tokens=Lengths(mean=1),
    prefix_tokens=20,
)
CHATS = Sessions(
    turns=Lengths(mean=3),
    first_tokens=Lengths(mean=20),
    turn_tokens=Lengths(mean=7),
    output_tokens=Lengths(mean=5),
    prefix_tokens=10,
)
IDS = Synthetic(input_tokens=Lengths(mean=90), output_tokens=Lengths(mean=1), by_ids=True)
TEXTS: list[tuple[Api, Workload]] = [
    ("chat", PREFIXED),
    ("chat", CHATS),
    ("completions", PREFIXED),
    ("completions", CHATS),
    ("completions", IDS),
    ("responses", PREFIXED),
    ("embeddings", PREFIXED),
]


def wrong_lengths(
    url: str, model: str, api: Api, workload: Workload, requests: int
) -> list[tuple[int, int | None]]:
    """What the server counts and what was asked for, where they differ."""
    target = Target(base_url=f"{url}/v1", model=model, api=api, key_variable=KEY_VARIABLE)
    wording = fit_wording(target)
    assert wording.exact, wording.source
    plan = RunPlan(target=target, arrivals=Constant(1), duration_s=requests, workload=workload)
    with ServerCount(target, timeout_s=60) as server:
        asked = list(asks(plan, wording, nonce="lengths"))[:requests]
        counted = [(server.usage(ask), ask.input_tokens) for ask in asked]
    assert len(counted) == requests
    return [(server, ours) for server, ours in counted if server != ours]


@pytest.mark.parametrize(("api", "workload"), TEXTS)
async def test_lengths_are_exact_on_the_simulated_engine(
    api: Api, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synthetic, with a shared beginning, as ids, and in conversations; with a template that takes its own tokens."""
    monkeypatch.setenv(KEY_VARIABLE, "k")
    server = SimulatedServer(Options(ttft_s=0.0, itl_s=0.0, key="k"))
    await server.open()
    try:
        found = await asyncio.to_thread(wrong_lengths, server.base_url, "simulated", api, workload, 6)
    finally:
        await server.close()
    assert found == []


@pytest.fixture(scope="module")
def llamacpp(sample_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    deployment = LlamaCppDeployment(engine="llamacpp", model=f"file:{sample_model}", parallel=1)
    log = tmp_path_factory.mktemp("engine") / "log"
    running = start(LlamaCppAdapter(NAME, deployment), sample_model, log)
    try:
        yield running
    finally:
        running.client.close()
        running.process.terminate()
        running.process.wait()


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize(("api", "workload"), [each for each in TEXTS if each[0] in ("chat", "completions")])
def test_lengths_are_exact_on_llama_cpp(
    api: Api, workload: Workload, llamacpp: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the vocabulary of a real model, whose template has a system prompt of its own."""
    key = llamacpp.client.headers["authorization"].removeprefix("Bearer ")
    monkeypatch.setenv(KEY_VARIABLE, key)
    assert wrong_lengths(llamacpp.endpoint.url, NAME, api, workload, 6) == []
