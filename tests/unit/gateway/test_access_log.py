"""The access log's lines, and when they are written."""

from __future__ import annotations

import json

import msgspec

from inferry.core.outcome import Ending, Outcome, UsageFrom
from inferry.gateway.access_log import AccessLine, AccessLog


def outcome(**changes: object) -> Outcome:
    base = Outcome(
        id="o-1", request_id="req-1", route="/v1/chat/completions", ending=Ending.COMPLETED, status=200,
        received_wall_s=1_700_000_000.25, duration_s=1.5, deployment="chat", model="SECRET-MODEL", engine="vllm",
        replica_id="chat-0", key_id="key_1", tenant="team", stream=True, queue_s=0.125, ttft_s=0.5, attempts=2,
        prompt_tokens=7, cached_tokens=3, completion_tokens=9, cost_nano=1234, finish_reason="stop",
        usage_from=UsageFrom.ENGINE,
    )  # fmt: skip
    return msgspec.structs.replace(base, **changes)


def lines(log: AccessLog, blocks: list[str]) -> list[dict[str, object]]:
    log.flush()
    return [json.loads(line) for block in blocks for line in block.split("\n")]


def test_a_line_says_who_what_where_and_how_long() -> None:
    """One JSON object with the outcome's facts and the client's address; nothing that the client wrote."""
    blocks: list[str] = []
    log = AccessLog(blocks.append)
    log.record(outcome(), "203.0.113.9")
    [line] = lines(log, blocks)
    assert line == {
        "event": "request", "level": "info", "timestamp": "2023-11-14T22:13:21.750000Z", "request_id": "req-1",
        "id": "o-1", "client": "203.0.113.9", "route": "/v1/chat/completions", "ending": "completed", "status": 200,
        "duration_s": 1.5, "tenant": "team", "key_id": "key_1", "deployment": "chat", "replica_id": "chat-0",
        "stream": True, "queue_s": 0.125, "ttft_s": 0.5, "attempts": 2, "prompt_tokens": 7, "cached_tokens": 3,
        "completion_tokens": 9, "cost_nano": 1234, "finish_reason": "stop",
    }  # fmt: skip


def test_what_is_not_known_is_left_out() -> None:
    """A request that was refused at the door makes a short line."""
    blocks: list[str] = []
    log = AccessLog(blocks.append)
    log.record(
        Outcome(
            id="o", request_id="r", route="/v1/embeddings", ending=Ending.REJECTED, status=400,
            received_wall_s=0.0, duration_s=0.0, error_code="invalid_request",
        ),
        "::1",
    )  # fmt: skip
    [line] = lines(log, blocks)
    assert line["error_code"] == "invalid_request"
    assert not {"tenant", "key_id", "deployment", "ttft_s", "prompt_tokens"} & set(line)


def test_every_fact_of_an_outcome_is_in_the_line_or_left_out_on_purpose() -> None:
    """A field that is added to the outcome must be added to the line, or named here."""
    left_out = {"received_wall_s", "model", "engine", "usage_from"}
    of_outcome = {each.name for each in msgspec.structs.fields(Outcome)}
    of_line = {each.name for each in msgspec.structs.fields(AccessLine)}
    assert of_outcome - of_line == left_out
    assert of_line - of_outcome == {"event", "level", "timestamp", "client"}


def test_lines_are_written_in_blocks_and_none_is_lost_or_doubled() -> None:
    """Thousands of requests cost few writes; a flush writes the rest, and then nothing more."""
    blocks: list[str] = []
    log = AccessLog(blocks.append)
    for number in range(3000):
        log.record(outcome(id=f"o-{number}"), "::1")
    assert 1 <= len(blocks) < 60
    assert [line["id"] for line in lines(log, blocks)] == [f"o-{number}" for number in range(3000)]
    before = len(blocks)
    log.flush()
    assert len(blocks) == before


def test_a_block_is_whole_lines() -> None:
    """Names with line breaks can't forge a second line."""
    blocks: list[str] = []
    log = AccessLog(blocks.append)
    log.record(outcome(finish_reason='stop"}\n{"event":"forged"'), "::1")
    assert len(lines(log, blocks)) == 1
