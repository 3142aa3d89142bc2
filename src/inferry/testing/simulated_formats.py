"""How an answer is written: chat completions and completions, streamed and whole, as vLLM writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from inferry.testing.simulated_model import Piece
from inferry.testing.simulated_requests import Ask

FINGERPRINT = "inferry-simulated"
DONE = b"data: [DONE]\n\n"
to_json = msgspec.json.encode


def error_object(message: str, kind: str, code: int, param: str | None = None) -> dict[str, Any]:
    """vLLM's error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(slots=True)
class Choice:
    """What one choice has come to so far."""

    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish: str | None = None
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)


@dataclass(slots=True)
class Tally:
    """The counts of one request; the format reads them when it writes usage."""

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int = 0

    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "completion_tokens": self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class AnswerFormat(Protocol):
    """Writes one answer in the shape of one route."""

    def opening(self) -> bytes:
        """What comes with the first token."""

    def piece(self, index: int, piece: Piece) -> bytes: ...

    def closing(self, choices: Sequence[Choice]) -> bytes:
        """What comes after the last token of the last choice."""

    def failed(self, message: str, status: int) -> bytes:
        """An error in mid-stream."""

    def whole(self, choices: Sequence[Choice]) -> bytes:
        """The answer to a request without `stream`."""


def text_json(piece: Piece) -> bytes:
    """The piece's text as it stands inside a JSON string."""
    return to_json(piece.text)[1:-1] if piece.json is None else piece.json


class _OpenAIFormat:
    """What the two OpenAI routes have in common: head, usage, end and error of a stream."""

    object_name: str
    chunk_name: str

    def __init__(self, request_id: str, created_s: int, model: str, ask: Ask, tally: Tally) -> None:
        self._ask = ask
        self._tally = tally
        self._whole_head = {
            "id": request_id,
            "object": self.object_name,
            "created": created_s,
            "model": model,
            "system_fingerprint": FINGERPRINT,
        }
        head = to_json({**self._whole_head, "object": self.chunk_name})
        self._head = b"data: " + head[:-1] + b',"choices":['

    def _tail(self) -> bytes:
        if self._ask.continuous_usage:
            return b'],"usage":' + to_json(self._tally.usage()) + b"}\n\n"
        return b"]}\n\n"

    def _ending(self, piece: Piece) -> bytes:
        """The last fields of a streamed choice."""
        ids = b""
        if self._ask.return_token_ids:
            ids = b',"token_ids":[%d]' % piece.token_id
        if piece.finish is None:
            return b'"logprobs":null,"finish_reason":null%b}' % ids
        return b'"logprobs":null,"finish_reason":"%b","stop_reason":%b%b}' % (
            piece.finish.encode(),
            to_json(piece.stop_reason),
            ids,
        )

    def closing(self, choices: Sequence[Choice]) -> bytes:
        if not self._ask.include_usage:
            return DONE
        return self._head + b'],"usage":' + to_json(self._tally.usage()) + b"}\n\n" + DONE

    def failed(self, message: str, status: int) -> bytes:
        return b"data: " + to_json(error_object(message, "InternalServerError", status)) + b"\n\n" + DONE

    def _whole(self, choices: list[dict[str, Any]]) -> bytes:
        body: dict[str, Any] = {**self._whole_head, "choices": choices, "usage": self._tally.usage()}
        return to_json(body)


class ChatFormat(_OpenAIFormat):
    object_name = "chat.completion"
    chunk_name = "chat.completion.chunk"

    def opening(self) -> bytes:
        more = b""
        if self._ask.return_token_ids:
            more = b',"prompt_token_ids":' + to_json(self._ask.prompts[0].tolist())
        return b"".join(
            self._head
            + b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
            % index
            + self._tail()[:-3]
            + more
            + b"}\n\n"
            for index in range(self._ask.n)
        )

    def piece(self, index: int, piece: Piece) -> bytes:
        return (
            self._head
            + b'{"index":%d,"delta":{"content":"%b"},' % (index, text_json(piece))
            + self._ending(piece)
            + self._tail()
        )

    def whole(self, choices: Sequence[Choice]) -> bytes:
        listing: list[dict[str, Any]] = []
        for index, choice in enumerate(choices):
            message: dict[str, Any] = {
                "role": "assistant",
                "content": choice.text,
                "refusal": None,
                "tool_calls": [],
            }
            listing.append({"index": index, "message": message, **_whole_ending(choice, self._ask)})
        return self._whole(listing)


class CompletionFormat(_OpenAIFormat):
    object_name = "text_completion"
    chunk_name = "text_completion"

    def opening(self) -> bytes:
        ask = self._ask
        if not ask.echo and not ask.return_token_ids:
            return b""
        parts: list[bytes] = []
        for index in range(len(ask.prompts) * ask.n):
            text = to_json(ask.echo[index // ask.n] if ask.echo else "")
            ids = b""
            if ask.return_token_ids:
                ids = b',"prompt_token_ids":' + to_json(ask.prompts[index // ask.n].tolist())
            parts.append(
                self._head
                + b'{"index":%d,"text":%b,"logprobs":null,"finish_reason":null%b}' % (index, text, ids)
                + self._tail()
            )
        return b"".join(parts)

    def piece(self, index: int, piece: Piece) -> bytes:
        return (
            self._head
            + b'{"index":%d,"text":"%b",' % (index, text_json(piece))
            + self._ending(piece)
            + self._tail()
        )

    def whole(self, choices: Sequence[Choice]) -> bytes:
        ask = self._ask
        listing: list[dict[str, Any]] = []
        for index, choice in enumerate(choices):
            text = (ask.echo[index // ask.n] if ask.echo else "") + choice.text
            entry = {"index": index, "text": text, **_whole_ending(choice, ask)}
            if ask.return_token_ids:
                entry["prompt_token_ids"] = ask.prompts[index // ask.n].tolist()
            listing.append(entry)
        return self._whole(listing)


def _whole_ending(choice: Choice, ask: Ask) -> dict[str, Any]:
    ending: dict[str, Any] = {
        "logprobs": None,
        "finish_reason": choice.finish,
        "stop_reason": choice.stop_reason,
    }
    if ask.return_token_ids:
        ending["token_ids"] = choice.token_ids
    return ending
