"""The gateway against its own OpenAPI document: what the document allows is served, what it forbids is refused."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections import Counter
from typing import Any

import pytest

from inferry.gateway.openapi import openapi_document

from .gateway_harness import SSE_HEAD, Running, Seen, chunk, json_answer, running_gateway, upstream

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library's own imports warn of is not ours to judge
    schemathesis = pytest.importorskip("schemathesis")
    import hypothesis
    from schemathesis.checks import CHECKS, load_all_checks

    load_all_checks()

EXAMPLES = 20
SEED = 20260131
DOCUMENT: dict[str, Any] = json.loads(openapi_document(keys=False))


async def engine_of_all_routes(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Answers everything: events if they were asked for, else an object."""
    body = json.loads(seen.body)
    if body.get("stream"):
        writer.write(SSE_HEAD + chunk(b'data: {"choices":[]}\n\ndata: [DONE]\n\n') + b"0\r\n\r\n")
    else:
        writer.write(json_answer(b'{"usage":{"prompt_tokens":1,"completion_tokens":1}}'))
    await writer.drain()


def with_whole_numbers(case: Any) -> Any:
    """JSON Schema takes 1.0 for an integer; the document says in words that the gateway does not."""
    if isinstance(case.body, dict):
        case.body = _whole(case.body)
    return case


def without_what_words_forbid(case: Any) -> Any:
    """Of Ollama's requests the document says in words: a tool's result comes after its call, raw prompts are alone."""
    body = case.body
    if isinstance(body, dict) and body.get("raw") is True:
        del body["raw"]
    if isinstance(body, dict) and isinstance(body.get("messages"), list):
        for message in body["messages"]:
            if isinstance(message, dict) and message.get("role") == "tool":
                message["role"] = "user"
    return case


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def run_operation(url: str, method: str, path: str, mode: Any, examples: int) -> Counter[int]:
    """Generated requests to one operation, each answer checked; how often each status came."""
    schema = schemathesis.openapi.from_dict(json.loads(openapi_document(keys=False, models=["chat"])))
    checks = [CHECKS.get_one(name) for name in CHECKS.get_all_names() if name != "ignored_auth"]
    statuses: Counter[int] = Counter()
    strategy = schema[path][method].as_strategy(generation_mode=mode).map(with_whole_numbers)
    if path.startswith("/api/"):
        strategy = strategy.map(without_what_words_forbid)

    @hypothesis.seed(SEED)
    @hypothesis.settings(
        max_examples=examples, deadline=None, database=None, derandomize=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=strategy)
    def each(case: Any) -> None:
        response = case.call_and_validate(base_url=url, checks=checks)
        statuses[response.status_code] += 1

    each()
    return statuses


async def run(running: Running, method: str, path: str, mode: Any, examples: int = EXAMPLES) -> Counter[int]:
    return await asyncio.to_thread(run_operation, running.url, method, path, mode, examples)


POSTS = [path for path, item in DOCUMENT["paths"].items() if "post" in item]
GETS = [path for path, item in DOCUMENT["paths"].items() if "get" in item]


@pytest.mark.parametrize("path", POSTS)
async def test_what_the_document_allows_is_served(path: str) -> None:
    """Bodies made from the schema reach the engine: none is refused, and every answer is as documented."""
    async with upstream(engine_of_all_routes) as engine, running_gateway([engine.port]) as running:
        statuses = await run(running, "post", path, schemathesis.GenerationMode.POSITIVE)
        assert set(statuses) == {200}, statuses


@pytest.mark.parametrize("path", POSTS)
async def test_what_the_document_forbids_is_refused(path: str) -> None:
    """Bodies that break the schema get a documented 4xx and an error object; no engine sees them."""
    async with upstream(engine_of_all_routes) as engine, running_gateway([engine.port]) as running:
        statuses = await run(running, "post", path, schemathesis.GenerationMode.NEGATIVE)
        assert sum(statuses.values()) >= 10
        assert set(statuses) <= {400, 404}, statuses


@pytest.mark.parametrize("path", GETS)
async def test_pages_are_as_documented(path: str) -> None:
    """Each page answers with the status, type and shape that the document says."""
    async with upstream(engine_of_all_routes) as engine, running_gateway([engine.port]) as running:
        statuses = await run(running, "get", path, schemathesis.GenerationMode.POSITIVE)
        expected = {200, 404} if "{" in path else {200}
        assert set(statuses) <= expected
