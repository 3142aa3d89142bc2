"""How an answer is written on the other two routes: OpenAI's Responses and Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inferry.testing.simulated_formats import Choice, Tally, error_object, text_json, to_json
from inferry.testing.simulated_model import Piece


class ResponsesFormat:
    """`/v1/responses`: numbered events; the last one, response.completed, carries the whole answer."""

    def __init__(self, request_id: str, created_s: int, model: str, tally: Tally) -> None:
        self._id = request_id
        self._created_s = created_s
        self._model = model
        self._tally = tally
        self._item_id = f"msg_{request_id.removeprefix('resp_')}"
        self._events = 0

    def _event(self, kind: str, **fields: Any) -> bytes:
        body = {"type": kind, "sequence_number": self._events, **fields}
        self._events += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), to_json(body))

    def _response(self, status: str, output: list[dict[str, Any]], usage: bool) -> dict[str, Any]:
        tally = self._tally
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_s,
            "model": self._model,
            "status": status,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "metadata": {"simulated": "true"},
            "usage": {
                "input_tokens": tally.prompt_tokens,
                "input_tokens_details": {"cached_tokens": tally.cached_tokens},
                "output_tokens": tally.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": tally.prompt_tokens + tally.completion_tokens,
            }
            if usage
            else None,
        }

    def _item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def opening(self) -> bytes:
        started = self._response("in_progress", [], usage=False)
        return (
            self._event("response.created", response=started)
            + self._event("response.in_progress", response=started)
            + self._event("response.output_item.added", output_index=0, item=self._item("in_progress", []))
            + self._event("response.content_part.added", **self._at(), part=_part(""))
        )

    def _at(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def piece(self, index: int, piece: Piece) -> bytes:
        if not piece.text:
            return b""
        return self._event("response.output_text.delta", **self._at(), delta=piece.text, logprobs=[])

    def closing(self, choices: Sequence[Choice]) -> bytes:
        status, item = self._ended(choices)
        text = choices[0].text
        return (
            self._event("response.output_text.done", **self._at(), text=text, logprobs=[])
            + self._event("response.content_part.done", **self._at(), part=_part(text))
            + self._event("response.output_item.done", output_index=0, item=item)
            + self._event("response.completed", response=self._response(status, [item], usage=True))
        )

    def _ended(self, choices: Sequence[Choice]) -> tuple[str, dict[str, Any]]:
        status = "completed" if choices[0].finish == "stop" else "incomplete"
        return status, self._item(status, [_part(choices[0].text)])

    def failed(self, message: str, status: int) -> bytes:
        return self._event("error", code=str(status), message=message, param=None)

    def whole(self, choices: Sequence[Choice]) -> bytes:
        status, item = self._ended(choices)
        return to_json(self._response(status, [item], usage=True))


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


class MessagesFormat:
    """`/v1/messages`: one text block, message_start to message_stop."""

    def __init__(self, request_id: str, model: str, tally: Tally) -> None:
        self._id = request_id
        self._model = model
        self._tally = tally

    def _message(self, content: list[dict[str, Any]], ended: Choice | None) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            **_stop(ended),
            "usage": {
                "input_tokens": self._tally.prompt_tokens,
                "output_tokens": 0 if ended is None else self._tally.completion_tokens,
                "cache_read_input_tokens": self._tally.cached_tokens,
            },
        }

    def opening(self) -> bytes:
        block = {"type": "text", "text": ""}
        return _event("message_start", message=self._message([], None)) + _event(
            "content_block_start", index=0, content_block=block
        )

    def piece(self, index: int, piece: Piece) -> bytes:
        if not piece.text:
            return b""
        return (
            b"event: content_block_delta\ndata: "
            b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}\n\n'
        ) % text_json(piece)

    def closing(self, choices: Sequence[Choice]) -> bytes:
        return (
            _event("content_block_stop", index=0)
            + _event(
                "message_delta",
                delta=_stop(choices[0]),
                usage={"output_tokens": self._tally.completion_tokens},
            )
            + _event("message_stop")
        )

    def failed(self, message: str, status: int) -> bytes:
        return _event("error", error={"type": "api_error", "message": message})

    def whole(self, choices: Sequence[Choice]) -> bytes:
        return to_json(self._message([{"type": "text", "text": choices[0].text}], choices[0]))


_STOP_REASONS = {"length": "max_tokens", "abort": "end_turn"}


def _stop(ended: Choice | None) -> dict[str, Any]:
    if ended is None:
        return {"stop_reason": None, "stop_sequence": None}
    if ended.stop_reason is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": ended.stop_reason}
    return {"stop_reason": _STOP_REASONS.get(ended.finish or "", "end_turn"), "stop_sequence": None}


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), to_json({"type": kind, **fields}))


_ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error_body(anthropic: bool, message: str, status: int, kind: str, param: str | None = None) -> bytes:
    """An error before the answer has begun, in the shape of the route that was asked."""
    if not anthropic:
        return to_json(error_object(message, kind, status, param))
    shown = {"type": _ANTHROPIC_KINDS.get(status, "api_error"), "message": message}
    return to_json({"type": "error", "error": shown})
