"""Output lines, as OpenAI's Batch API has them; sums."""

from __future__ import annotations

import json

import msgspec
import pytest

from inferry.batch.record import (
    Failure,
    Record,
    Tally,
    answered_entry,
    failed_entry,
    failure_text,
    is_json_object,
    one_line_json,
    request_id,
)


def test_an_answer_has_openais_shape() -> None:
    """id, custom_id, response with status, request id and body, and error null."""
    entry = answered_entry("run1", 7, "mine", 200, "seen", b'{"choices": [1.0e0]}')
    assert json.loads(bytes(entry)) == {
        "id": "batch_req_run1_7",
        "custom_id": "mine",
        "response": {"status_code": 200, "request_id": "seen", "body": {"choices": [1.0]}},
        "error": None,
    }
    assert b"1.0e0" in bytes(entry)


def test_a_failure_without_an_answer_has_openais_shape() -> None:
    """response null, and an error with code and message."""
    entry = failed_entry("run1", 7, "mine", Failure("deadline_exceeded", "Too late."))
    assert json.loads(bytes(entry)) == {
        "id": "batch_req_run1_7",
        "custom_id": "mine",
        "response": None,
        "error": {"code": "deadline_exceeded", "message": "Too late."},
    }


def test_an_id_fits_the_gateway() -> None:
    """Every try of a line has the same id, of characters that the gateway takes."""
    assert request_id("0123456789ab", 1_000_000) == "batch-0123456789ab-1000000"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{\n "a": [1,\r\n 2]\n}', b'{"a":[1,2]}'),
        (b"<html>\n</html>", b'"<html>\\n</html>"'),
        (b"", b'""'),
        (b"\xff{}", '"\N{REPLACEMENT CHARACTER}{}"'.encode()),
        (b'{"a":"\xff"}', '"{\\"a\\":\\"\N{REPLACEMENT CHARACTER}\\"}"'.encode()),
    ],
)
def test_a_body_becomes_one_line_of_json(body: bytes, line: bytes) -> None:
    """JSON loses its line ends; anything else becomes a JSON string."""
    assert one_line_json(body) == line


@pytest.mark.parametrize(
    ("body", "is_one"),
    [(b"{}", True), (b"[]", False), (b"", False), (b'{"a":"\xff"}', False), (b"[" * 100_000, False)],
)
def test_what_an_answer_must_be(body: bytes, is_one: bool) -> None:
    """A JSON object, of valid UTF-8, that can be read."""
    assert is_json_object(body) is is_one


def test_sums() -> None:
    """Answers and failures are counted apart, and answers without a price are known."""
    tally, entry = Tally(), failed_entry("r", 1, "a", Failure("x", ""))
    tally.add(Record(1, entry, None, 10, 4, 5, 300))
    tally.add(Record(2, entry, None, 1, None, 2, None))
    tally.add(Record(3, entry, "503"))
    assert (tally.completed, tally.failed, tally.over) == (2, 1, 3)
    assert (tally.prompt_tokens, tally.cached_tokens, tally.completion_tokens) == (11, 4, 7)
    assert (tally.cost_nano, tally.unpriced) == (300, 1)


def test_the_first_failure_is_the_inputs_first() -> None:
    """Whatever failed first in time; it is told with its line, its id and why, and an odd entry at least with its code."""
    tally = Tally()
    for line, entry in (
        (7, failed_entry("run1", 7, "late", Failure("deadline_exceeded", "Too late."))),
        (3, answered_entry("run1", 3, "rude", 400, "seen", b"no JSON\n at all")),
        (5, msgspec.Raw(b"{}")),
    ):
        record = Record(line, entry, "400")
        tally.add(record)
        told = {3: "line 3 (rude): 400: no JSON at all", 5: "line 5: 400"}
        assert failure_text(record) == told.get(line, "line 7 (late): deadline_exceeded: Too late.")
    assert tally.first_failed is not None
    assert tally.first_failed.line == 3
