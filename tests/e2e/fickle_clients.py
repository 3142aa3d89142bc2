"""Clients that ask in every dialect and leave when they like, and know exactly what they got."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httptools

KINDS = ("chat", "chat stream", "chat stream usage", "completions", "completions stream", "messages",
         "messages stream", "embeddings")  # fmt: skip
PATIENCE_S = 60.0
_PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "messages": "/v1/messages",
          "embeddings": "/v1/embeddings"}  # fmt: skip


@dataclass(slots=True)
class Ask:
    """One request, when its client means to leave, and what came of it."""

    id: str
    kind: str
    tokens: int
    leave: str
    """`never`; `early`: before the first byte; `middle`: after some tokens; `end`: at the last token."""
    leave_after: float
    """Seconds or tokens."""
    status: int = 0
    body: bytes = b""
    whole: bool = False
    left: bool = False
    connected: bool = False

    @property
    def stream(self) -> bool:
        return "stream" in self.kind

    def events(self) -> Iterator[dict[str, Any]]:
        for line in self.body.split(b"\n\n")[:-1]:
            data = line.rpartition(b"data: ")[2]
            if data.startswith(b"{"):
                yield json.loads(data)

    def tokens_seen(self) -> int:
        """Of a stream: tokens in whole events that reached this client."""
        return sum(map(_has_token, self.events()))

    def usage(self) -> tuple[int, int] | None:
        """What the client itself was told: prompt and completion tokens."""
        found = [event["usage"] for event in self._told() if event.get("usage")]
        if not found or self.kind == "messages stream":
            return None
        usage = found[-1]
        if "input_tokens" in usage:
            return usage["input_tokens"], usage["output_tokens"]
        return usage["prompt_tokens"], usage.get("completion_tokens", 0)

    def _told(self) -> list[dict[str, Any]]:
        return list(self.events()) if self.stream else [json.loads(self.body)]

    def failed_in_stream(self) -> bool:
        return any("error" in event for event in self.events())


def _has_token(event: dict[str, Any]) -> bool:
    if event.get("type") == "content_block_delta":
        return bool(event["delta"].get("text"))
    return any(
        choice.get("text") or (choice.get("delta") or {}).get("content")
        for choice in event.get("choices", ())
    )


def random_ask(dice: random.Random, id: str) -> Ask:
    kind = dice.choice(KINDS)
    tokens = dice.randint(8, 60)
    leave = dice.choice(("never", "never", "early", "middle", "end"))
    after = dice.uniform(0.0, 0.05)
    if leave == "middle":
        after = dice.uniform(0.02, 0.5) if "stream" not in kind else dice.randint(1, tokens - 1)
    elif leave == "end" and "stream" not in kind:
        leave = "never"
    return Ask(id, kind, tokens, leave, after)


def _body(ask: Ask) -> bytes:
    text = f"Request {ask.id} asks for a tale of {ask.tokens} words."
    body: dict[str, Any] = {"model": "chat", "max_tokens": ask.tokens, "ignore_eos": True}
    route = ask.kind.split()[0]
    if route == "embeddings":
        body = {"model": "chat", "input": text}
    elif route == "completions":
        body["prompt"] = text
    else:
        body["messages"] = [{"role": "user", "content": text}]
    if ask.stream:
        body["stream"] = True
    if "usage" in ask.kind:
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


@dataclass(slots=True)
class _Reader:
    """Fed with what the socket gives; httptools' callbacks."""

    ask: Ask
    parts: list[bytes] = field(default_factory=list)

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        self.ask.whole = True


async def perform(ask: Ask, host: str, port: int) -> None:
    """Ask, and leave as planned. A connection that is refused or lost is no error here."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            await _perform(ask, host, port)
    except TimeoutError as error:
        raise AssertionError(f"{ask.id} ({ask.kind}) never ended") from error
    except OSError:
        return


async def _perform(ask: Ask, host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    ask.connected = True
    answer = _Reader(ask)
    parser = httptools.HttpResponseParser(answer)
    try:
        body = _body(ask)
        writer.write(
            f"POST {_PATHS[ask.kind.split()[0]]} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
            f"x-request-id: {ask.id}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        timed = ask.leave == "early" or (ask.leave == "middle" and not ask.stream)
        try:
            async with asyncio.timeout(ask.leave_after if timed else None):
                while not ask.left and (data := await reader.read(65536)):
                    parser.feed_data(data)
                    ask.status = parser.get_status_code()
                    if ask.stream and ask.leave in ("middle", "end"):
                        ask.body = b"".join(answer.parts)
                        wanted = ask.leave_after if ask.leave == "middle" else ask.tokens
                        ask.left = not ask.whole and ask.tokens_seen() >= wanted
        except TimeoutError:
            ask.left = not ask.whole
    finally:
        ask.body = b"".join(answer.parts)
        writer.transport.abort()
