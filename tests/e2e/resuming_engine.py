"""A stand-in for an engine that has one answer in mind, breaks off where a test says, and goes on as vLLM does."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from .gateway_harness import SSE_HEAD, Seen, chunk

WORDS = ("The", " tower", " stands", " in", " Paris", ",", " France", ".")
PROMPT_TOKENS = 11
DONE = b"data: [DONE]\n\n"


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


@dataclass
class Engine:
    """`handler` for an Upstream. Its answer is WORDS, a token each; a partial one is gone on with."""

    name: str
    dies_after: int | None = None
    """Tokens of its own; None: never."""
    how: str = "reset"
    """reset, close, frame (an error frame), abort (a reason that says so), unfinished, bad_event, hang; no_done: in the middle of [DONE]."""
    words: tuple[str, ...] = WORDS
    refuses_partial: bool = False
    style: str = "two_flags"
    """How it is asked to go on: as vLLM, or by an assistant message at the end (`trailing`)."""
    joins: bool = False
    """Two tokens to an event."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    hangs: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def handler(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        body = json.loads(seen.body)
        self.bodies.append(body)
        is_chat = seen.path.endswith("/chat/completions")
        before = self._partial(body, is_chat)
        if before and self.refuses_partial:
            refusal = b'{"error":{"message":"the last message must be the user\'s"}}'
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n")
            writer.write(b"content-length: %d\r\n\r\n%b" % (len(refusal), refusal))
            return
        writer.write(SSE_HEAD)
        with_ids = bool(body.get("return_token_ids"))
        if is_chat:
            first = self._event({"role": "assistant", "content": ""}, is_chat)
            if with_ids:
                first = event({**json.loads(first[6:]), "prompt_token_ids": list(range(PROMPT_TOKENS))})
            await self._say(writer, first)
        limit = body.get("max_tokens") or 10**6
        words = self.words[before : before + limit]
        held, held_ids = "", None
        for count, word in enumerate(words):
            if count == self.dies_after:
                await self._die(writer, seen, is_chat)
                return
            ids = [1000 + before + count] if with_ids else None
            if self.joins and count % 2 == 0 and count + 1 < len(words):
                held, held_ids = word, ids
                continue
            said, ids = held + word, (held_ids or []) + ids if ids else None
            held, held_ids = "", None
            await self._say(writer, self._event({"content": said}, is_chat, ids=ids))
        if self.dies_after == len(words):
            await self._die(writer, seen, is_chat)
            return
        reason = "length" if limit < len(self.words) - before else "stop"
        await self._say(writer, self._event({}, is_chat, reason))
        if self.dies_after == len(words) + 1:
            await self._die(writer, seen, is_chat)
            return
        ended = int(reason == "stop")
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": PROMPT_TOKENS + before, "completion_tokens": len(words) + ended}
            usage["total_tokens"] = sum(usage.values())
            await self._say(writer, event({**self._envelope(is_chat), "choices": [], "usage": usage}))
        if self.how == "no_done":
            writer.write(chunk(DONE[:9]))
            await asyncio.sleep(0.01)
            writer.transport.abort()
            return
        await self._say(writer, DONE)
        writer.write(b"0\r\n\r\n")

    def _partial(self, body: dict[str, Any], is_chat: bool) -> int:
        """How many words the request has already."""
        if is_chat:
            last = body["messages"][-1]
            if last["role"] != "assistant":
                return 0
            if self.style == "two_flags":
                assert body["continue_final_message"] is True
                assert body["add_generation_prompt"] is False
            text = last["content"]
        else:
            if isinstance(body["prompt"], list):
                assert body["prompt"][:PROMPT_TOKENS] == list(range(PROMPT_TOKENS))
                return len(body["prompt"]) - PROMPT_TOKENS
            text = body["prompt"].removeprefix("Where?")
        for count in range(len(self.words) + 1):
            if "".join(self.words[:count]) == text:
                return count
        raise AssertionError(f"not the beginning of the answer: {text!r}")

    async def _die(self, writer: asyncio.StreamWriter, seen: Seen, is_chat: bool) -> None:
        match self.how:
            case "reset":
                await asyncio.sleep(0.01)
                writer.transport.abort()
            case "close":
                writer.write(chunk(b'data: {"choi'))
                await writer.drain()
                writer.close()
            case "frame":
                frame = event(
                    {"error": {"message": "CUDA error", "type": "InternalServerError", "code": 500}}
                )
                writer.write(
                    chunk(self._event({"content": self.words[self.dies_after or 0]}, is_chat) + frame + DONE)
                )
                writer.write(b"0\r\n\r\n")
            case "abort":
                writer.write(chunk(self._event({}, is_chat, "abort")) + chunk(DONE) + b"0\r\n\r\n")
            case "unfinished":
                writer.write(chunk(DONE) + b"0\r\n\r\n")
            case "bad_event":
                writer.write(chunk(b'data: {"choices": [\0]}\n\n'))
                await seen.closed.wait()
            case "hang":
                self.hangs.set()
                await seen.closed.wait()

    def _envelope(self, is_chat: bool) -> dict[str, Any]:
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        return {"id": f"id-of-{self.name}", "object": kind, "created": 1, "model": self.name}

    def _event(
        self, delta: dict[str, Any], is_chat: bool, reason: str | None = None, ids: list[int] | None = None
    ) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        if ids is not None:
            choice["token_ids"] = ids
            if not is_chat:
                choice["prompt_token_ids"] = list(range(PROMPT_TOKENS))
        choice |= {"delta": delta} if is_chat else {"text": delta.get("content", "")}
        return event({**self._envelope(is_chat), "choices": [choice]})

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(chunk(data))
        await writer.drain()
        await asyncio.sleep(0)
