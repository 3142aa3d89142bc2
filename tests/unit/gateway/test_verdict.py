"""Which ends of an answer are none."""

from __future__ import annotations

import json

import pytest

from inferry.core.errors import EngineAborted, EngineRejected, EngineStreamError, EngineUnfinished
from inferry.gateway.verdict import judge_reason, read_error


def event(payload: object, end: str = "\n\n") -> bytes:
    return f"data: {json.dumps(payload)}{end}".encode()


TOKEN = event({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]})
DONE = b"data: [DONE]\n\n"
# As each engine writes it: vLLM, SGLang, llama.cpp, TGI, Anthropic's and OpenAI's own routes, OpenRouter.
FRAMES = {
    "vllm": {"error": {"message": "boom", "type": "InternalServerError", "param": None, "code": 500}},
    "sglang": {"error": {"object": "error", "message": "boom", "type": "x", "param": None, "code": 500}},
    "llamacpp": {"error": {"code": 500, "message": "boom", "type": "server_error"}},
    "tgi": {"error": "boom", "error_type": "generation"},
    "messages": {"type": "error", "error": {"type": "overloaded_error", "message": "boom"}},
    "responses": {"type": "error", "code": "server_error", "message": "boom", "param": None},
    "failed": {"type": "response.failed", "response": {"status": "failed", "error": {"message": "boom"}}},
    "router": {"choices": [{"finish_reason": "error"}], "error": {"code": 502, "message": "boom"}},
    "busy": {"error": {"code": 429, "message": "boom"}},
}


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"])
@pytest.mark.parametrize("name", FRAMES)
def test_every_engines_error_frame_is_read(name: str, end: str) -> None:
    """As the last event, before [DONE], and with its own line ends; what it says comes out."""
    frame = event(FRAMES[name], end)
    for tail in (frame, TOKEN + frame, TOKEN + frame + DONE, frame + b": ping\n\n", frame.rstrip()):
        error = read_error(tail)
        assert isinstance(error, EngineStreamError), tail
        assert "boom" in error.message


@pytest.mark.parametrize(
    "frame",
    [
        {"error": {"message": "too long", "type": "BadRequestError", "code": 400}},
        {"error": "too long", "error_type": "validation"},
        {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}},
    ],
)
def test_a_bad_request_is_the_clients(frame: dict[str, object]) -> None:
    """TGI, for one, answers 200 and refuses in the first event."""
    error = read_error(event(frame) + DONE)
    assert isinstance(error, EngineRejected)
    assert error.message == "too long"


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        TOKEN,
        event({"choices": [{"delta": {"content": "error"}}]}),
        event({"choices": [{"delta": {"content": '{"error":{"message":"x"}}'}}]}),
        event({"choices": [], "error": None}),
        event({"type": "response.completed", "response": {"status": "completed", "error": None}}),
        event({"choices": [{"delta": {"tool_calls": [{"function": {"arguments": '{"error": 1}'}}]}}]}),
        b'data: {"error":{"mess',
        b'data: {"error": nonsense}\n\n',
        b'"error"\n\n',
        b'\xff"error"\n\n',
    ],
)
def test_what_looks_alike_is_no_error(tail: bytes) -> None:
    """A model that writes about errors, fields that say that there is none, and halves."""
    assert read_error(tail) is None


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "end_turn", "completed", "repetition"])
def test_an_answer_with_a_reason_is_whole(reason: str) -> None:
    """Whatever the dialect's word for it."""
    assert judge_reason(reason, reason_needed=True) is None


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled"])
def test_an_answer_given_up_is_none(reason: str) -> None:
    """Needed or not, a reason that says so is believed."""
    for needed in (True, False):
        error = judge_reason(reason, reason_needed=needed)
        assert isinstance(error, EngineAborted)
        assert reason in error.message


def test_a_failed_response_has_failed() -> None:
    """Also where it does not say by what."""
    assert isinstance(judge_reason("failed", reason_needed=True), EngineStreamError)


def test_no_reason_is_no_end() -> None:
    """Unless the deployment says that its servers never give one."""
    assert isinstance(judge_reason(None, reason_needed=True), EngineUnfinished)
    assert judge_reason(None, reason_needed=False) is None


def test_the_codes_are_stable() -> None:
    """They are in the ledger, the metrics and in clients' hands."""
    codes = [each.code for each in (EngineStreamError, EngineAborted, EngineUnfinished, EngineRejected)]
    assert codes == ["engine_stream_error", "engine_aborted", "engine_unfinished", "engine_rejected"]
