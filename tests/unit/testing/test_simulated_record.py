"""What a simulated engine did for each request, as its record says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from inferry.testing.manual_clock import ManualClock
from inferry.testing.simulated_app import Options
from inferry.testing.simulated_record import Attempt, RequestRecord, read_record
from inferry.testing.simulated_server import SimulatedServer


def test_a_killed_engine_has_said_how_far_it_got(tmp_path: Path) -> None:
    """Tokens before the kill are there one by one, a half line is left out, and ids come in the order of their begin."""
    clock = ManualClock(wall_s=5.0)
    record = RequestRecord(tmp_path, clock)
    record.write("killed", "begun", 7)
    clock.advance(1.0)
    record.write("done", "begun", 3)
    record.write("killed", "token")
    record.write("killed", "token")
    record.write("done", "token")
    record.write("done", "finished", 3, 1)
    record.write("left", "begun", 4)
    record.write("left", "dropped", 4, 9)
    record.write(None, "begun", 9)
    record.close()
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"id":"killed","event":"to')
    pid = int(path.stem)
    assert read_record(tmp_path) == [
        Attempt("killed", pid, 5.0, 7, 2),
        Attempt("done", pid, 6.0, 3, 1, finished=True),
        Attempt("left", pid, 6.0, 4, 9),
    ]


async def test_an_engine_records_what_it_tells(tmp_path: Path) -> None:
    """Prompt and completion of each answer as in its usage, embeddings too; a client that left is no finish."""
    server = SimulatedServer(Options(ttft_s=0.0, itl_s=0.001, record_folder=tmp_path))
    await server.open()
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        ask = {"prompt": "Tell me more.", "max_tokens": 20, "ignore_eos": True}
        whole = await client.post("/v1/completions", json=ask, headers={"x-request-id": "whole"})
        embedded = await client.post(
            "/v1/embeddings", json={"input": "hi"}, headers={"x-request-id": "vector"}
        )
        endless = ask | {"max_tokens": 4000, "stream": True}
        async with client.stream(
            "POST", "/v1/completions", json=endless, headers={"x-request-id": "left"}
        ) as answer:
            await anext(answer.aiter_bytes())
        while server.app.generator.batch.running:
            await asyncio.sleep(0.01)
    await server.close()
    found = {attempt.id: attempt for attempt in read_record(tmp_path)}
    for id, usage in (("whole", whole.json()["usage"]), ("vector", embedded.json()["usage"])):
        assert found[id].finished
        assert found[id].prompt_tokens == usage["prompt_tokens"]
        assert found[id].completion_tokens == usage["completion_tokens"]
    assert not found["left"].finished
    assert 0 < found["left"].completion_tokens < 4000
