"""Each fault of the simulated engine, as a client meets it."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import httpx
import pytest

from .simulated_client import (
    LONG,
    QUESTION,
    chat,
    engine,
    events,
    figures,
    said,
    started,
    stream,
    until_figures,
)


async def command(client: httpx.AsyncClient, **fault: Any) -> None:
    answer = await client.post("/simulate/fault", json=fault)
    assert answer.status_code == 200, answer.text


async def test_faults_are_off_unless_asked_for() -> None:
    """Without --faults commands are refused, and the header is nothing."""
    async with engine(faults=False) as client:
        answer = await client.post("/simulate/fault", json={"kind": "cut"})
        assert answer.status_code == 403
        assert "--faults" in answer.json()["error"]["message"]
        assert (await chat(client, fault="cut")).status_code == 200


async def test_a_wrong_command_is_explained() -> None:
    """A typo is a 400 that names the known kinds, in the body and in the header."""
    async with engine() as client:
        for answer in (
            await client.post("/simulate/fault", json={"kind": "crush"}),
            await chat(client, fault="crush"),
        ):
            assert answer.status_code == 400
            assert "crash" in answer.json()["error"]["message"]


async def test_commands_are_shown_used_up_and_cleared() -> None:
    """GET shows what waits, each request uses one, DELETE forgets; a refused request uses none."""
    async with engine() as client:
        await command(client, kind="error_status", status=503, times=2)
        assert (await client.get("/simulate/fault")).json()["armed"][0]["times"] == 2
        assert (await chat(client, max_tokens=0)).status_code == 400
        assert (await chat(client)).status_code == 503
        assert (await client.get("/simulate/fault")).json()["armed"][0]["times"] == 1
        assert (await client.delete("/simulate/fault")).json() == {"armed": []}
        assert (await chat(client)).status_code == 200


@pytest.mark.parametrize("kind", ["cut", "bad_bytes", "refuse", "crash"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_before_the_answer_begins_nothing_comes(kind: str, streamed: bool) -> None:
    """At 0 tokens the connection ends without a byte of an answer, so that a retry is safe."""
    async with engine() as client:
        with pytest.raises(httpx.RemoteProtocolError if kind != "crash" else httpx.TransportError):
            await chat(client, fault=kind, stream=streamed)


@pytest.mark.parametrize("kind", ["cut", "bad_bytes", "crash"])
async def test_in_mid_stream_so_many_tokens_come(kind: str) -> None:
    """Exactly the tokens before the fault arrive, they are the right ones, and the stream breaks."""
    async with engine() as client, engine() as sound:
        full = events((await stream(sound, max_tokens=20))[0])
        text, error = await stream(client, fault=f"{kind};after_tokens=4", max_tokens=20)
        assert error is not None
        assert "[DONE]" not in text
        assert said(events(text)) == said(full[:5])
        if kind != "crash":
            seen = await until_figures(client, lambda seen: seen["vllm:num_requests_running"] == 0)
            assert seen["vllm:generation_tokens_total"] == 4


async def test_an_error_in_mid_stream_is_a_frame_and_done() -> None:
    """As at vLLM: status 200, an error object in the stream, then [DONE] all the same."""
    async with engine() as client:
        text, error = await stream(client, fault="error_status;after_tokens=2;status=500")
        assert error is None
        *chunks, frame, done = events(text)
        assert len(chunks) == 3
        assert set(frame["error"]) == {"message", "type", "param", "code"}
        assert done == "[DONE]"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"messages": [QUESTION], "max_tokens": 9}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/completions", {"prompt": "hi"}),
        ("/v1/embeddings", {"input": "hi"}),
        ("/v1/rerank", {"query": "hi", "documents": ["ho"]}),
        ("/tokenize", {"prompt": "hi"}),
    ],
)
async def test_faults_hit_every_inference_route(path: str, body: dict[str, Any]) -> None:
    """A status or a cut can be had on each route, in the route's own error shape."""
    async with engine() as client:
        headers = {"x-simulate-fault": "error_status;status=529"}
        answer = await client.post(path, json=body, headers=headers)
        assert answer.status_code == 529
        expected = "overloaded_error" if path == "/v1/messages" else "InternalServerError"
        assert answer.json()["error"]["type"] == expected
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(path, json=body, headers={"x-simulate-fault": "cut"})
        assert (await client.post(path, json=body)).status_code == 200


async def test_an_event_that_is_no_json() -> None:
    """With where=event the HTTP is sound and one event is broken; a whole answer is broken JSON."""
    async with engine() as client:
        text, error = await stream(client, fault="bad_bytes;where=event;after_tokens=1", max_tokens=3)
        assert error is None
        with pytest.raises(ValueError, match="Unterminated"):
            events(text)
        answer = await chat(client, fault="bad_bytes;where=event")
        assert answer.status_code == 200
        with pytest.raises(ValueError, match="Unterminated"):
            answer.json()


async def test_a_stall_is_silence_and_then_the_same_answer() -> None:
    """Nothing comes for so long, the place stays taken, and then the rest comes, unchanged."""
    async with engine() as client:
        full, _ = await stream(client)
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        stalled, error = await stream(client, fault="stall;after_tokens=3;seconds=0.4")
        assert error is None
        assert loop.time() - begin_s >= 0.4
        assert said(events(stalled)) == said(events(full))
        task = asyncio.create_task(stream(client, fault="stall;after_tokens=3;seconds=600"))
        before = (await figures(client))["vllm:generation_tokens_total"]
        await until_figures(client, lambda seen: seen["vllm:generation_tokens_total"] == before + 3)
        assert (await figures(client))["vllm:num_requests_running"] == 1
        task.cancel()
        await until_figures(client, lambda seen: seen["vllm:num_requests_running"] == 0)


async def test_slow_takes_so_many_times_as_long() -> None:
    """Ten tokens at 5 ms take at least 45 ms; slowed tenfold, at least ten times that."""
    async with engine(itl_s=0.005) as client:
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        text, _ = await stream(client, fault="slow;factor=10", max_tokens=10)
        assert loop.time() - begin_s >= 0.45
        assert len(events(text)) == 12


async def test_refuse_closes_the_port_and_opens_it_again() -> None:
    """Commanded, the port refuses for a while: running streams break, connects fail, then all is well."""
    async with engine(itl_s=0.005) as client, asyncio.TaskGroup() as group:
        task = group.create_task(stream(client, **LONG))
        await until_figures(client, lambda seen: seen["vllm:generation_tokens_total"] >= 2)
        await command(client, kind="refuse", seconds=0.5)
        _, error = await task
        assert error is not None
        with pytest.raises(httpx.ConnectError):
            await client.get("/health")
        async with asyncio.timeout(10):
            while True:
                try:
                    assert (await client.get("/health")).status_code == 200
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.02)
        assert (await chat(client)).status_code == 200


async def test_loading_answers_503_everywhere_until_it_is_over() -> None:
    """Health and inference say 503 while the engine plays loading; clearing ends it."""
    async with engine() as client:
        await command(client, kind="loading", seconds=600)
        health = await client.get("/health")
        assert health.status_code == 503
        assert "Loading model" in health.json()["error"]["message"]
        assert (await chat(client)).status_code == 503
        assert (await client.get("/simulate/fault")).json()["loading_s"] > 0
        await client.delete("/simulate/fault")
        assert (await client.get("/health")).status_code == 200
        await command(client, kind="loading", seconds=0.05)
        async with asyncio.timeout(10):
            while (await client.get("/health")).status_code == 503:
                await asyncio.sleep(0.01)


async def test_crash_kills_the_program() -> None:
    """The process ends as by kill -9, with the tokens before it delivered."""
    process, base_url = await started("--port", "0", "--ttft-ms", "1", "--itl-ms", "5", "--faults")
    async with httpx.AsyncClient(base_url=base_url) as client:
        await command(client, kind="crash", after_tokens=3)
        text, error = await stream(client)
        assert error is not None
        assert len(events(text)) == 4
    await process.communicate()
    assert process.returncode == -signal.SIGKILL
