"""The simulated engine over HTTP keeps its word: answers, counts, limits, shutdown."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from inferry.testing.simulated_engine import running_simulated_engine

from .simulated_client import (
    LONG,
    QUESTION,
    chat,
    chat_body,
    engine,
    events,
    figures,
    said,
    started,
    stream,
    until_figures,
)

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"


async def test_it_says_that_it_is_simulated() -> None:
    """In a header of every answer, in the list of models, in the version and in each completion."""
    async with engine(served_name="chat") as client:
        models = await client.get("/v1/models")
        assert models.json()["data"][0]["owned_by"] == "inferry-simulated"
        assert models.json()["data"][0]["id"] == "chat"
        for path in ("/health", "/version", "/metrics", "/nowhere"):
            assert (await client.get(path)).headers["x-inferry-simulated"] == "1"
        assert "simulated" in (await client.get("/version")).json()["version"]
        answer = await chat(client, model="chat")
        assert answer.json()["system_fingerprint"] == "inferry-simulated"


async def test_stream_and_whole_say_the_same() -> None:
    """The same words and counts on both ways, and on every route that is given the same prompt."""
    async with engine() as client:
        whole = (await chat(client)).json()
        text, _ = await stream(client, stream_options={"include_usage": True})
        chunks = events(text)
        assert chunks[-1] == "[DONE]"
        assert said(chunks) == whole["choices"][0]["message"]["content"]
        counts = {"prompt_tokens", "completion_tokens", "total_tokens"}
        assert {k: chunks[-2]["usage"][k] for k in counts} == {k: whole["usage"][k] for k in counts}
        assert chunks[-2]["choices"] == []
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert len({chunk["id"] for chunk in chunks[:-1]}) == 1
        message = await client.post("/v1/messages", json=chat_body(max_tokens=500))
        assert message.json()["content"][0]["text"] == said(chunks)
        response = await client.post("/v1/responses", json={"input": QUESTION["content"]})
        assert response.json()["output"][0]["content"][0]["text"] == said(chunks)


async def test_usage_is_exact() -> None:
    """Prompt tokens are what /tokenize counts, completion tokens are the ids that were given out."""
    async with engine() as client:
        counted = (await client.post("/tokenize", json={"messages": [QUESTION]})).json()
        whole = (await chat(client, return_token_ids=True)).json()
        assert whole["usage"]["prompt_tokens"] == counted["count"] == len(counted["tokens"])
        ids = whole["choices"][0]["token_ids"]
        assert whole["usage"]["completion_tokens"] == len(ids)
        back = (await client.post("/detokenize", json={"tokens": ids})).json()["prompt"]
        assert back == whole["choices"][0]["message"]["content"]


async def test_continuous_usage_grows_by_one() -> None:
    """With continuous_usage_stats each chunk carries the count so far; without, only the last one has usage."""
    async with engine() as client:
        options = {"include_usage": True, "continuous_usage_stats": True}
        text, _ = await stream(client, max_tokens=5, stream_options=options)
        counts = [event["usage"]["completion_tokens"] for event in events(text)[:-1]]
        assert counts == [1, 1, 2, 3, 4, 5, 5]
        text, _ = await stream(client, max_tokens=5)
        assert all("usage" not in event for event in events(text)[:-1])


async def test_choices_are_independent_and_counted_together() -> None:
    """n gives so many answers, the first being the one that n=1 gives; tokens of all are counted."""
    async with engine() as client:
        single = (await chat(client)).json()
        whole = (await chat(client, n=3)).json()
        texts = [choice["message"]["content"] for choice in whole["choices"]]
        assert len(set(texts)) == 3
        assert texts[0] == single["choices"][0]["message"]["content"]
        text, _ = await stream(client, n=3, stream_options={"include_usage": True})
        assert events(text)[-2]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
        ends = [c for e in events(text)[:-1] for c in e["choices"] if c["finish_reason"] is not None]
        assert sorted(choice["index"] for choice in ends) == [0, 1, 2]


async def test_repeated_prompts_come_from_the_prefix_cache() -> None:
    """The second time, all whole blocks but the last token's are cached, in usage and in the metrics."""
    prompt = "word " * 40
    async with engine() as client:
        body = {"prompt": prompt, "max_tokens": 1}
        first, second = [(await client.post("/v1/completions", json=body)).json() for _ in range(2)]
        count = first["usage"]["prompt_tokens"]
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == (count - 1) // 16 * 16
        seen = await figures(client)
        assert seen["vllm:prefix_cache_queries_total"] == 2 * count
        assert seen["vllm:prefix_cache_hits_total"] == (count - 1) // 16 * 16


@pytest.mark.parametrize("cut", [1, 2, 7, 30, -1])
async def test_another_engine_continues_exactly(cut: int) -> None:
    """Given the words or the ids so far, a second engine says the rest: chat, completions, messages."""
    prefill: dict[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
    async with engine() as one, engine() as other:
        chunks = events((await stream(one, return_token_ids=True))[0])[1:-1]
        before, after = said(chunks[:cut]), said(chunks[cut:])
        messages = [QUESTION, {"role": "assistant", "content": before}]
        rest = (await chat(other, messages=messages, **prefill)).json()
        assert rest["choices"][0]["message"]["content"] == after
        rest = (await other.post("/v1/messages", json={"messages": messages, "max_tokens": 500})).json()
        assert rest["content"][0]["text"] == after

        first = (await one.post("/v1/completions", json={"prompt": "It was", "max_tokens": 40})).json()
        whole = first["choices"][0]["text"]
        half = len(whole) // 2
        body = {"prompt": "It was" + whole[:half], "max_tokens": 40}
        rest = (await other.post("/v1/completions", json=body)).json()
        assert rest["choices"][0]["text"].startswith(whole[half:])

        asked = (await one.post("/tokenize", json={"messages": [QUESTION]})).json()["tokens"]
        so_far = [token_id for chunk in chunks[:cut] for token_id in chunk["choices"][0]["token_ids"]]
        body = {"prompt": asked + so_far, "max_tokens": 500}
        rest = (await other.post("/v1/completions", json=body)).json()
        assert rest["choices"][0]["text"] == after


async def test_only_so_many_run_at_once() -> None:
    """With two places, the third request waits, is seen waiting, and runs when a place is free."""
    async with engine(parallel=2, itl_s=0.005) as client, asyncio.TaskGroup() as group:
        long = [group.create_task(stream(client, **LONG)) for _ in range(2)]
        await until_figures(client, lambda seen: seen[RUNNING] == 2)
        short = group.create_task(chat(client, max_tokens=1))
        seen = await until_figures(client, lambda seen: seen[WAITING] == 1)
        assert seen[RUNNING] == 2
        assert 0 < seen["vllm:kv_cache_usage_perc"] < 1
        assert not short.done()
        long[0].cancel()
        assert (await short).status_code == 200
        long[1].cancel()
        seen = await until_figures(client, lambda seen: seen[RUNNING] == 0)
        assert seen["vllm:kv_cache_usage_perc"] == 0
        assert seen[WAITING] == 0


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_goes_away_frees_its_place(streamed: bool) -> None:
    """On disconnect generation stops at once, streamed or not, and is counted as aborted."""
    async with engine(itl_s=0.005) as client:
        task = asyncio.create_task(chat(client, stream=streamed, **LONG))
        await until_figures(client, lambda seen: seen["vllm:generation_tokens_total"] >= 3)
        task.cancel()
        await asyncio.wait([task])
        await until_figures(client, lambda seen: seen[RUNNING] == 0)
        assert 'finished_reason="abort"} 1.0' in (await client.get("/metrics")).text


async def test_the_key_is_asked_for() -> None:
    """With a key, all is closed to others but /health, and the commands of faults, if those are on at all."""
    async with engine(key="k3y", faults=False) as client:
        assert (await client.get("/simulate/fault")).status_code == 403
    async with engine(key="k3y") as client:
        for path in ("/health", "/simulate/fault"):
            assert (await client.get(path)).status_code == 200
        for path in ("/v1/models", "/metrics", "/version", "/nowhere"):
            assert (await client.get(path)).status_code == 401
        assert (await chat(client)).status_code == 401
        client.headers["authorization"] = "Bearer other"
        assert (await chat(client)).status_code == 401
        client.headers["authorization"] = "Bearer k3y"
        assert (await chat(client)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/chat/completions", {"messages": [QUESTION], "model": "nope"}, 404, "NotFoundError"),
        ("/v1/chat/completions", {"messages": [QUESTION], "max_tokens": 99}, 400, "BadRequestError"),
        ("/v1/completions", {"prompt": "x " * 99}, 400, "BadRequestError"),
        ("/v1/embeddings", {"input": "x", "dimensions": 0.5}, 400, "BadRequestError"),
        ("/v1/rerank", {"query": "x"}, 400, "BadRequestError"),
        ("/detokenize", {"tokens": ["x"]}, 400, "BadRequestError"),
        ("/tokenize", {}, 400, "BadRequestError"),
        ("/v1/nowhere", {}, 404, "NotFoundError"),
        ("/v1/models", {}, 405, "MethodNotAllowedError"),
    ],
)
async def test_errors_have_vllms_shape(path: str, body: dict[str, Any], status: int, kind: str) -> None:
    """Every refusal is one object with message, type, param and code."""
    async with engine(context_tokens=64) as client:
        answer = await client.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["type"]) == (status, status, kind)
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]


async def test_the_metrics_page_is_prometheus_and_counts() -> None:
    """The page parses with Prometheus' own parser and holds what was asked and said."""
    async with engine(served_name='odd "name"') as client:
        whole = (await chat(client, model='odd "name"', max_tokens=5)).json()
        page = (await client.get("/metrics")).text
        families = {family.name: family for family in text_string_to_metric_families(page)}
        for name, kind in (
            ("vllm:num_requests_running", "gauge"),
            ("vllm:num_requests_waiting", "gauge"),
            ("vllm:kv_cache_usage_perc", "gauge"),
            ("vllm:prefix_cache_queries", "counter"),
            ("vllm:prefix_cache_hits", "counter"),
            ("vllm:prompt_tokens", "counter"),
            ("vllm:generation_tokens", "counter"),
            ("vllm:request_success", "counter"),
            ("vllm:time_to_first_token_seconds", "histogram"),
            ("vllm:inter_token_latency_seconds", "histogram"),
            ("vllm:e2e_request_latency_seconds", "histogram"),
        ):
            assert families[name].type == kind
            labels = families[name].samples[0].labels
            assert (labels["model_name"], labels["engine"]) == ('odd "name"', "0")
        seen = await figures(client)
        assert seen["vllm:generation_tokens_total"] == whole["usage"]["completion_tokens"] == 5
        assert seen["vllm:prompt_tokens_total"] == whole["usage"]["prompt_tokens"]
        assert seen["vllm:time_to_first_token_seconds_count"] == 1
        assert seen["vllm:inter_token_latency_seconds_count"] == 4


async def test_pipelined_and_chunked_requests_are_answered_in_order() -> None:
    """Requests sent ahead on one connection are each answered, in order; chunked bodies are read."""
    body = b'{"prompt":"a b c","max_tokens":2}'
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\n"
    plain = head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    chunked = head + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    last = b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with running_simulated_engine() as base_url:
        url = httpx.URL(base_url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(plain + chunked + last)
        answers = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b'"completion_tokens":2') == 2
    assert answers.rstrip().endswith(b"}")
    assert b"inferry.simulated" in answers[answers.rindex(b"HTTP/1.1") :]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"this is not HTTP\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbig: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -4\r\n\r\n", 400),
    ],
)
async def test_what_is_not_http_is_refused(request_bytes: bytes, status: int) -> None:
    """A broken or outsized request gets one error and the end of the connection."""
    async with running_simulated_engine() as base_url:
        url = httpx.URL(base_url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(request_bytes)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 %d " % status)


async def test_the_program_ends_politely() -> None:
    """SIGTERM ends running streams with finish_reason abort and [DONE], and the process with 0."""
    process, base_url = await started("--port", "0", "--ttft-ms", "0", "--itl-ms", "5")
    async with httpx.AsyncClient(base_url=base_url) as client, asyncio.TaskGroup() as group:
        task = group.create_task(stream(client, **LONG))
        await until_figures(client, lambda seen: seen["vllm:generation_tokens_total"] >= 3)
        process.send_signal(signal.SIGTERM)
        text, error = await task
    assert error is None
    assert events(text)[-1] == "[DONE]"
    assert events(text)[-2]["choices"][0]["finish_reason"] == "abort"
    _, stderr = await process.communicate()
    assert (process.returncode, stderr) == (0, b"")


async def test_the_program_says_that_its_port_is_taken() -> None:
    """A taken port is one line and an exit code that says: try again elsewhere."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "inferry.testing.simulated_engine", "--port", port, stdout=PIPE, stderr=PIPE
        )
        stdout, stderr = await process.communicate()
    assert (process.returncode, stdout) == (75, b"")
    assert len(stderr.splitlines()) == 1
    assert port.encode() in stderr


@pytest.mark.parametrize(
    "arguments",
    [["--parallel", "0"], ["--ttft-ms", "-1"], ["--itl-ms", "nan"], ["--port", "x"], ["--key", "k3y"]],
)
async def test_bad_flags_are_refused(arguments: list[str]) -> None:
    """A flag that makes no sense, or would show a secret, is exit code 2 and no traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "inferry.testing.simulated_engine", *arguments, stdout=PIPE, stderr=PIPE
    )
    _, stderr = await process.communicate()
    assert process.returncode == 2
    assert b"Traceback" not in stderr
