"""An answer that waits for an outside verdict when its replica dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from inferry.core.clock import SystemClock
from inferry.core.filter_settings import Classifier, Filter
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.core.replica import ReplicaState
from inferry.core.request import CHAT
from inferry.gateway.account import Account
from inferry.gateway.exchange import Exchange
from inferry.gateway.gateway import Gateway

from .stand import served, view

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ASK = b'{"model":"chat","stream":true,"messages":[{"role":"user","content":"a"}]}'
VERDICT_AFTER_S = 0.5
DIES_AFTER_S = 0.1
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Sink:
    """A client that keeps all it gets."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.body = b""
        self.ends = 0
        self.over = asyncio.Event()

    def start(self, status: int, header_lines: bytes, length: int | None) -> None:
        self.starts.append(status)

    def write(self, data: bytes) -> None:
        assert not self.ends, "written behind the end"
        self.body += data

    def end(self, data: bytes = b"") -> None:
        self.write(data)
        self.ends += 1
        self.over.set()

    def cut(self) -> None:
        self.ends += 1
        self.over.set()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n"


async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD + chunk(event("first attempt " * 4)))
    await asyncio.sleep(DIES_AFTER_S)
    writer.transport.abort()


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        HEAD + chunk(event("second attempt " * 4, "stop")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    )


async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")


def classifier(flagged: bool) -> Answer:
    async def judge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            await asyncio.sleep(VERDICT_AFTER_S)
            body = json.dumps({"results": [{"flagged": flagged}]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    return judge


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[int]:
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await answer(reader, writer)
        except ConnectionError:
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0.01)


async def ask(second: Answer, flagged: bool = False) -> tuple[Sink, list[Outcome]]:
    """One streamed chat: its first replica dies while the verdict on its text is out, `second` takes it over."""
    loop = asyncio.get_running_loop()
    faults: list[object] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(listening(each)) for each in (dies, second)]
        judge = await stack.enter_async_context(listening(classifier(flagged)))
        url = f"http://127.0.0.1:{judge}/m"
        rule = Filter(name="c", on="output", classifier=Classifier(url=url, window_chars=20, timeout_s=5))
        gateway = Gateway(
            GatewaySettings(), [replace(served("chat"), filters=(rule,))], clock=SystemClock(), loop=loop
        )
        outcomes: list[Outcome] = []

        def on_outcome(account: Account, outcome: Outcome) -> None:
            outcomes.append(outcome)

        gateway.on_outcome = on_outcome  # type: ignore[method-assign]
        for index, port in enumerate(ports):
            gateway.apply(view(index, ReplicaState.READY, port=port))
        sink = Sink()
        exchange = Exchange(gateway, sink, CHAT, gateway.edge.arrive(b"POST", [], "127.0.0.1"))
        assert exchange.open() is None
        exchange.begin(ASK)
        async with asyncio.timeout(10):
            await sink.over.wait()
        await asyncio.sleep(VERDICT_AFTER_S + 0.2)  # a verdict that nobody waits for would come by now
        held = [slot.in_flight for slot in gateway.deployments["chat"].balancer.slots.values()]
        assert held == [0, 0]
        await gateway.close()
    assert faults == []
    return sink, outcomes


async def test_nothing_of_the_dead_attempt_reaches_the_client() -> None:
    """The client gets the second replica's answer alone, and it is billed alone."""
    sink, [outcome] = await ask(answers)
    assert b"first" not in sink.body
    assert sink.body == event("second attempt " * 4, "stop") + b"data: [DONE]\n\n"
    assert (sink.starts, sink.ends) == ([200], 1)
    assert (outcome.ending, outcome.attempts) == (Ending.COMPLETED, 2)
    assert (outcome.completion_tokens, outcome.usage_from) == (1, UsageFrom.COUNTED)


async def test_a_late_verdict_writes_nothing_behind_an_answer_that_has_ended() -> None:
    """The second replica refuses the request at once; what is said of the first one's text comes to nobody."""
    sink, [outcome] = await ask(refuses)
    assert (sink.starts, sink.body, sink.ends) == ([400], b"{}", 1)
    assert outcome.ending is Ending.REJECTED


@pytest.mark.parametrize("second", [answers, refuses])
async def test_a_late_block_ends_nothing_twice(second: Answer) -> None:
    """Also when the verdict would have ended the dead attempt's stream."""
    sink, outcomes = await ask(second, flagged=True)
    assert sink.ends == len(outcomes) == 1
    assert b"first" not in sink.body
