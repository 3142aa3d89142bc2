"""A deployment leaves the file while requests wait there: over a socket, from the client's side."""

from __future__ import annotations

import asyncio

import pytest

from inferry.core.gateway_settings import Queue
from inferry.core.replica import ReplicaState
from inferry.core.request import ROUTES
from inferry.gateway.served import ServedSpec
from inferry.policy.routing import Routing

from .gateway_harness import Seen, json_answer, post, raw, running_gateway, split_response, upstream, view

BODY = b'{"model":"big","messages":[{"role":"user","content":"hi"}]}'
ANSWER = (
    b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)


@pytest.mark.parametrize("load_wait_s", [None, 300.0])
async def test_who_runs_ends_and_who_waits_is_told(load_wait_s: float | None) -> None:
    """One request is answered to its end; the one behind it gets a 503 that says why, before the replica has left and
    long before it would have waited enough."""
    came, go = asyncio.Event(), asyncio.Event()

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        came.set()
        await go.wait()
        writer.write(json_answer(ANSWER))

    queue = Queue(running_max=1, wait_max_s=300)
    big = ServedSpec(
        "big",
        (),
        "vllm",
        False,
        "big",
        frozenset(ROUTES),
        False,
        Routing(),
        queue=queue,
        load_wait_s=load_wait_s,
    )
    async with upstream(slow) as one, running_gateway([one.port], more=[big]) as running:
        gateway = running.gateway
        gateway.apply(view(one.port, deployment="big"))
        async with asyncio.TaskGroup() as group:
            first = group.create_task(raw(running.port, post("/v1/chat/completions", BODY)))
            await came.wait()
            second = group.create_task(raw(running.port, post("/v1/chat/completions", BODY)))
            while gateway.deployments["big"].waiting != 1:
                await asyncio.sleep(0.005)
            gateway.configure(gateway.settings, [gateway.deployments["chat"].spec], {}, 2, {})
            status, _, body = split_response(await second)
            assert (status, b"no_ready_replica" in body) == (503, True)
            assert b"'big' has left the deployment file" in body
            gateway.apply(view(one.port, deployment="big", state=ReplicaState.DRAINING))
            go.set()
        assert split_response(first.result())[0] == 200
        gateway.gone("big-0")
