"""The harness itself: what it takes for right is what undisturbed engines say, and it sees each kind of damage."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from inferry.testing.simulated_engine import running_simulated_engine

from .expected_answers import CHAT, expected_answer
from .load import random_ask
from .strict_client import Ask, Heard, ask_strictly


async def test_undisturbed_answers_are_right(dice: random.Random) -> None:
    """Sixty answers of the simulated engine, asked without a gateway, are exactly those that were worked out."""
    async with running_simulated_engine(served_name="chat") as url:
        place = urlsplit(url)
        asks = [random_ask(dice, f"{number:02}") for number in range(60)]
        heard = [await ask_strictly("127.0.0.1", int(place.port or 0), ask) for ask in asks]
    assert {each.ask.id: each.faults for each in heard if each.faults} == {}
    assert {each.ask.path for each in heard} == {"/v1/chat/completions", "/v1/completions"}
    assert {each.ask.expected.finish_reason for each in heard} == {"stop", "length"}


DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "an event is lost": (lambda events: events[:4] + events[5:], "text differs"),
    "an event comes twice": (lambda events: [*events[:4], events[3], *events[4:]], "text differs"),
    "two roles": (lambda events: [events[0], *events], "a role in events [0, 1]"),
    "another id": (lambda events: [*events[:4], events[4].replace(b"cmpl-", b"cmpl-2"), *events[5:]], "'id' has 2 values"),
    "no end": (lambda events: events[:-1], "no [DONE]"),
    "no finish": (lambda events: events[:-3] + events[-2:], "finish reasons"),
    "no usage": (lambda events: events[:-2] + events[-1:], "usage in events []"),
    "usage twice": (lambda events: [*events[:-2], events[-2], *events[-2:]], "usage in events"),
    "wrong sums": (lambda events: [each.replace(b'"completion_tokens":', b'"completion_tokens":1') for each in events], "usage {"),
    "an error": (lambda events: [*events[:4], b'data: {"error":{}}', events[-1]], "error event"),
    "half an event": (lambda events: [*events[:4], events[4][:30], *events[4:]], "is no JSON"),
    "a second [DONE]": (lambda events: [*events, events[-1]], "[DONE] is event"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_is_seen(damage: str) -> None:
    """An answer that is right is refused when this is done to it."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
    body |= {"stream_options": {"include_usage": True}}
    ask = Ask("one", CHAT, body, expected_answer(CHAT, body))
    harm, complaint = DAMAGE[damage]
    async with running_simulated_engine(served_name="chat") as url:
        heard = await ask_strictly("127.0.0.1", int(urlsplit(url).port or 0), ask)
    assert heard.faults == []
    harmed = await _heard_again(ask, harm([data for _, data in heard.events]))
    assert any(complaint in fault for fault in harmed.faults), harmed.faults


async def test_a_cut_connection_is_seen() -> None:
    """A stream whose connection closes before its end is refused."""
    ask = random_ask(random.Random(1), "one")
    heard = await _heard_again(ask, [], end=b"")
    assert "the connection closed before the message was complete" in heard.faults


async def _heard_again(ask: Ask, events: list[bytes], end: bytes = b"0\r\n\r\n") -> Heard:
    """What the client hears from a stand-in server that sends these events."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in events:
            writer.write(b"%x\r\n%b\n\n\r\n" % (len(event) + 2, event))
        writer.write(end)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        return await ask_strictly("127.0.0.1", server.sockets[0].getsockname()[1], ask)
