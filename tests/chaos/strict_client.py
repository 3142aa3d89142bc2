"""A client that asks for one stream, notes when each event came, and accepts nothing but an unbroken answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httptools

from .expected_answers import CHAT, Expected

DONE = b"[DONE]"
PATIENCE_S = 120.0


@dataclass(slots=True)
class Ask:
    """One streamed request, and the one answer to it that is right."""

    id: str
    path: str
    body: dict[str, Any]
    expected: Expected
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


@dataclass(slots=True)
class Heard:
    """What came of an Ask. Times are seconds of the monotonic clock."""

    ask: Ask
    begun_s: float
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    events: list[tuple[float, bytes]] = field(default_factory=list)
    """When each came, and its data."""
    complete: bool = False
    """The HTTP message came to its end."""
    broke: str = ""
    """How the connection failed, if it did."""
    faults: list[str] = field(default_factory=list)
    """In words, all that is not as it must be."""

    @property
    def replica(self) -> str:
        """Where it began."""
        return self.headers.get("x-inferry-replica", "")

    @property
    def first_event_s(self) -> float:
        return self.events[0][0]

    def longest_pause(self) -> tuple[float, int]:
        """In seconds, between two events; and how many events came before it."""
        times = [at for at, _ in self.events]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        if not pauses:
            return 0.0, len(times)
        longest = max(pauses)
        return longest, pauses.index(longest) + 1

    def text(self) -> str:
        """All that was said, as far as events can be read."""
        return "".join(_texts(_readable(self.events)))


class _Reader:
    """httptools' callbacks; an event counts from the moment at which its last byte is here."""

    def __init__(self, heard: Heard, on_event: Callable[[Heard], None]) -> None:
        self._heard = heard
        self._on_event = on_event
        self._pending = b""
        self.rest = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._heard.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        now_s = time.monotonic()
        *whole, self._pending = (self._pending + data).split(b"\n\n")
        for event in whole:
            self._heard.events.append((now_s, event))
            self._on_event(self._heard)

    def on_message_complete(self) -> None:
        self._heard.complete = True
        self.rest = self._pending


async def ask_strictly(
    host: str, port: int, ask: Ask, on_event: Callable[[Heard], None] = lambda heard: None
) -> Heard:
    """Ask and listen to the end. Raises nothing: what is wrong is in `faults`. `on_event` is called after each event."""
    heard = Heard(ask, time.monotonic())
    reader = _Reader(heard, on_event)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _listen(host, port, heard, reader)
    except TimeoutError:
        heard.broke = f"no end after {PATIENCE_S:g} s"
    except (OSError, httptools.HttpParserError) as error:
        heard.broke = repr(error)
    heard.faults = list(_faults(heard, reader.rest))
    return heard


async def _listen(host: str, port: int, heard: Heard, into: _Reader) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    parser = httptools.HttpResponseParser(into)
    try:
        writer.write(_request(host, heard.ask))
        while not heard.complete and (data := await reader.read(262_144)):
            parser.feed_data(data)
            heard.status = parser.get_status_code()
    finally:
        writer.transport.abort()


def _request(host: str, ask: Ask) -> bytes:
    body = json.dumps(ask.body).encode()
    lines = [f"POST {ask.path} HTTP/1.1", f"host: {host}", f"x-request-id: {ask.id}", "connection: close"]
    lines += ["content-type: application/json", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in ask.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


# --- what an unbroken answer is -----------------------------------------------------------------------


def _faults(heard: Heard, rest: bytes) -> list[str]:
    if heard.broke:
        return [f"connection: {heard.broke}"]
    if heard.status != 200:
        return [f"status {heard.status}: {[data[:300] for _, data in heard.events] or rest[:300]!r}"]
    found: list[str] = []
    if not heard.complete:
        found.append("the connection closed before the message was complete")
    if rest:
        found.append(f"bytes behind the last event: {rest[:100]!r}")
    events: list[dict[str, Any]] = []
    for number, (_, raw) in enumerate(heard.events):
        if not raw.startswith(b"data: ") or b"\n" in raw:
            found.append(f"event {number} is not one line of data: {raw[:200]!r}")
            continue
        data = raw.removeprefix(b"data: ")
        if data == DONE:
            if number != len(heard.events) - 1:
                found.append(f"[DONE] is event {number} of {len(heard.events)}")
            continue
        try:
            event = json.loads(data)
        except ValueError:
            found.append(f"event {number} is no JSON: {data[:200]!r}")
            continue
        if "error" in event:
            found.append(f"error event: {event['error']}")
        else:
            events.append(event)
    if not heard.events or heard.events[-1][1] != b"data: " + DONE:
        found.append("no [DONE] at the end")
    found += _faults_of_heads(events)
    found += _faults_of_choices(heard.ask, events)
    found += _faults_of_usage(heard.ask, events)
    return found


def _faults_of_heads(events: list[dict[str, Any]]) -> list[str]:
    """One answer has one id, one time and one model, from its first event to its last."""
    return [
        f"'{name}' has {len(values)} values: {sorted(map(str, values))[:4]}"
        for name in ("id", "object", "created", "model", "system_fingerprint")
        if len(values := {event.get(name) for event in events}) != 1
    ]


def _faults_of_choices(ask: Ask, events: list[dict[str, Any]]) -> list[str]:
    found: list[str] = []
    with_choices = [event for event in events if event.get("choices")]
    choices = [choice for event in with_choices for choice in event["choices"]]
    if {choice.get("index") for choice in choices} != {0} or len(choices) != len(with_choices):
        found.append("choices that are not the only one, with index 0")
    if ask.path == CHAT:
        roles = [number for number, choice in enumerate(choices) if "role" in choice["delta"]]
        if roles != [0]:
            found.append(f"a role in events {roles}, and not in the first alone")
    finishes = [
        (number, choice["finish_reason"])
        for number, choice in enumerate(choices)
        if choice.get("finish_reason")
    ]
    if finishes != [(len(choices) - 1, ask.expected.finish_reason)]:
        found.append(
            f"finish reasons {finishes} in {len(choices)} events, not {ask.expected.finish_reason!r} in the last"
        )
    said = "".join(_texts(events))
    if said != ask.expected.text:
        found.append(_difference(said, ask.expected.text))
    return found


def _faults_of_usage(ask: Ask, events: list[dict[str, Any]]) -> list[str]:
    usages = [(number, event["usage"]) for number, event in enumerate(events) if event.get("usage")]
    if not ask.wants_usage:
        return [f"usage that nobody asked for: {usages}"] if usages else []
    if [number for number, _ in usages] != [len(events) - 1]:
        return [
            f"usage in events {[number for number, _ in usages]} of {len(events)}, and not in the last alone"
        ]
    expected = ask.expected
    wanted = {
        "prompt_tokens": expected.prompt_tokens,
        "completion_tokens": expected.completion_tokens,
        "total_tokens": expected.prompt_tokens + expected.completion_tokens,
    }
    usage = usages[0][1]
    told = {name: usage.get(name) for name in wanted}
    return [] if told == wanted else [f"usage {told}, not {wanted}"]


def _readable(events: list[tuple[float, bytes]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _, raw in events:
        if raw.startswith(b"data: {"):
            try:
                found.append(json.loads(raw.removeprefix(b"data: ")))
            except ValueError:
                continue
    return found


def _texts(events: list[dict[str, Any]]) -> list[str]:
    return [
        (choice["text"] if "text" in choice else choice.get("delta", {}).get("content")) or ""
        for event in events
        for choice in event.get("choices") or ()
    ]


def _difference(said: str, wanted: str) -> str:
    at = next(
        (at for at, (a, b) in enumerate(zip(said, wanted, strict=False)) if a != b),
        min(len(said), len(wanted)),
    )
    return (
        f"text differs from character {at} of {len(wanted)} on ({len(said)} came): "
        f"{said[max(at - 40, 0) : at + 40]!r}, not {wanted[max(at - 40, 0) : at + 40]!r}"
    )
