"""Who counts as demand for a deployment: over a real gateway, each way in and out."""

from __future__ import annotations

import asyncio
from typing import Any

from inferry.core.limits import Limits
from inferry.gateway.demand_seen import traffic_of

from .gateway_harness import SSE_HEAD, Seen, chunk, upstream
from .named_gateway import USAGE, answers, named_gateway, refuses


async def test_only_those_that_were_let_in_are_counted() -> None:
    """Answers count, streams with their times; what a limit or a malformed body refuses is no demand, and what an
    engine refuses is demand without a failure of ours."""
    async with upstream(answers("one")) as one, upstream(refuses(b"400 Bad Request")) as strict:
        ports = {"v1": [one.port], "picky": [strict.port]}
        limited: dict[str, Any] = {"v1": {"limits": Limits(requests_per_minute=2)}}
        async with named_gateway(ports, {}, specs=limited) as named:
            for expected, body in ((200, {}), (200, {"stream": True}), (429, {}), (400, {"messages": 1})):
                assert (await named.ask("v1", **body)).status == expected
            assert (await named.ask("picky")).status == 400
            await named.outcome(5)
            await named.settled()
            snapshot = named.gateway.snapshot()
    seen = traffic_of(snapshot, "v1", {"v1-0"})
    assert seen is not None
    assert (seen.arrived, seen.ended, seen.failed, seen.in_flight) == (2, 2, 0, 0)
    assert (seen.prompt_tokens, seen.output_tokens) == (6, 4)
    assert (seen.e2e.total, seen.ttft.total, seen.itl.total) == (2, 1, 1)
    picky = snapshot.demand["picky"]
    assert (picky.arrived, picky.ended, picky.failed, picky.e2e.total) == (1, 1, 0, 0)


async def test_a_stream_under_way_has_told_its_first_token() -> None:
    """Long answers tell of an overload when they begin, not minutes later when they end; and each only once."""
    go_on = asyncio.Event()

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'))
        await go_on.wait()
        piece = b'data: {"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n'
        writer.write(
            chunk(piece) + chunk(b'data: {"choices":[],%b}\n\ndata: [DONE]\n\n' % USAGE) + b"0\r\n\r\n"
        )

    async with upstream(handler) as engine, named_gateway({"v1": [engine.port]}, {}) as named:
        asked = asyncio.create_task(named.ask("v1", stream=True))
        demand = named.gateway.deployments["v1"].demand
        async with asyncio.timeout(5):
            while not demand.ttft.total:
                await asyncio.sleep(0.005)
        assert (demand.ttft.total, demand.ended) == (1, 0)
        go_on.set()
        assert (await asked).status == 200
        await named.settled()
        assert (demand.ttft.total, demand.itl.total, demand.ended) == (1, 1, 1)


async def test_who_leaves_for_another_deployment_has_failed_there() -> None:
    """Behind a name with a fallback, both deployments were wanted; the first one failed, and nothing is left over."""
    async with upstream(refuses(b"500 Oops")) as broken, upstream(answers("two")) as two:
        ports = {"v1": [broken.port], "v2": [two.port]}
        name = {"split": [{"deployment": "v1", "weight": 1}], "fallbacks": ["v2"]}
        async with named_gateway(ports, {"chat": name}) as named:
            assert (await named.ask("chat")).by == "v2"
            await named.outcome()
            demand = named.gateway.snapshot().demand
    assert [(demand[each].arrived, demand[each].ended, demand[each].failed) for each in ("v1", "v2")] == [
        (1, 1, 1),
        (1, 1, 0),
    ]
