"""Holds the ledger against what engines did and what clients got, request by request."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferry.ledger.inflight_book import CRASHED
from inferry.ledger.reconcile import ABORT_TOKENS_MAX
from inferry.testing.simulated_record import Attempt, read_record

from .fickle_clients import Ask
from .inferry_process import Inferry

UNREAD_TOKENS_MAX = ABORT_TOKENS_MAX
"""Generated and not billed, of one stream that was cut off: what is written to sockets and not read, and what comes
until the engine notices. The same bound as `inferry ledger reconcile` works with."""


@dataclass(slots=True)
class Findings:
    """How often each case came up; a test that met none of a kind has shown nothing about it."""

    cases: Counter[str] = field(default_factory=Counter)
    unread_tokens_max: int = 0
    differences: set[tuple[str, int]] = field(default_factory=set)
    """Of the engines' own counters from the ledger, as reconciled: counter and tokens."""


def check_accounts(inferry: Inferry, asks: Sequence[Ask], record: Path) -> Findings:
    """Everything that must hold once Inferry has ended in order. Raises AssertionError that names the request."""
    rows = _rows(inferry)
    attempts: dict[str, list[Attempt]] = {}
    for attempt in read_record(record):
        attempts.setdefault(attempt.id, []).append(attempt)
    by_request = {row["request_id"]: row for row in rows}
    assert len(by_request) == len(rows), "a request is in the ledger twice"
    assert by_request.keys() <= {ask.id for ask in asks}
    assert attempts.keys() <= by_request.keys(), (
        "an engine worked for a request that the ledger does not know"
    )
    findings = Findings()
    for ask in asks:
        row = by_request.get(ask.id)
        tried = attempts.get(ask.id, [])
        try:
            case = _check_one(ask, row, tried, findings)
        except AssertionError as error:
            error.add_note(f"{ask}\n{row}\n{tried}")
            raise
        findings.cases[case] += 1
    _check_sums(inferry, rows)
    _check_reconcile(inferry, rows, findings)
    return findings


def _check_one(ask: Ask, row: dict[str, Any] | None, tried: list[Attempt], findings: Findings) -> str:
    if row is None:
        assert not ask.whole or ask.status >= 400
        return "never entered"
    billed = (row["prompt_tokens"], row["completion_tokens"])
    if row["ending"] == "completed":
        last = tried[-1]
        assert last.finished
        assert row["usage_from"] == "engine"
        if row["resumes"]:
            _check_resumed(ask, billed, tried)
        else:  # replicas that failed before the answer began come first; the last one gave it
            assert billed == (last.prompt_tokens, last.completion_tokens)
        if ask.whole:
            assert ask.usage() in (None, billed)
        return "completed" if ask.whole else "completed, client gone"
    assert not (ask.whole and ask.status == 200 and not ask.failed_in_stream()), "whole, and not billed so"
    crashed = row["error_code"] == CRASHED
    case = "crashed" if crashed else row["ending"]
    if any(attempt.finished for attempt in tried):
        case += ", engine finished"
    if not ask.stream:
        assert row["usage_from"] == "none"
        assert billed == (None, None)
        return f"{case}, call"
    completion = row["completion_tokens"] or 0
    # What the last replica gave can have gone on; and where one went on with a stream, what those before it gave.
    # (A crash's record does not tell: then by what it counted.)
    went_on = row["resumes"] or (crashed and tried and completion > tried[-1].completion_tokens)
    parts = tried if went_on else tried[-1:]
    generated = sum(attempt.completion_tokens for attempt in parts)
    assert ask.tokens_seen() <= completion <= generated
    unread = generated - completion
    assert unread <= UNREAD_TOKENS_MAX * max(len(parts), 1)
    findings.unread_tokens_max = max(findings.unread_tokens_max, unread)
    if not completion:
        assert (row["usage_from"], billed) == ("none", (None, None))
        return f"{case}, nothing relayed"
    assert row["usage_from"] == "counted"
    assert row["prompt_tokens"] > 0
    return case


def _check_resumed(ask: Ask, billed: tuple[int, int], tried: list[Attempt]) -> None:
    """One bill for all parts: the prompt that the client sent, and the tokens that it got."""
    first, last = tried[0], tried[-1]
    prompt, completion = billed
    assert prompt == first.prompt_tokens
    assert ask.tokens_seen() <= completion <= sum(attempt.completion_tokens for attempt in tried)
    # The last engine went on behind what was there, or said all of it again, or was only asked for the count.
    went_on = prompt + completion == last.prompt_tokens + last.completion_tokens
    assert went_on or last.completion_tokens in (completion, 1)


def _check_sums(inferry: Inferry, rows: list[dict[str, Any]]) -> None:
    """`inferry usage` says what the single outcomes add up to."""
    done = inferry.run("usage", "--json")
    assert done.returncode == 0, done.stderr
    total = json.loads(done.stdout)["total"]
    assert total["requests"] == len(rows)
    for name in ("prompt_tokens", "completion_tokens"):
        assert total[name] == sum(row[name] or 0 for row in rows)


def _check_reconcile(inferry: Inferry, rows: list[dict[str, Any]], findings: Findings) -> None:
    """Each difference has a cause, and all that a crash cut off at an engine are named as in doubt."""
    done = inferry.run("ledger", "reconcile", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    lives = json.loads(done.stdout)
    in_doubt = {id for life in lives for id in life["in_doubt"]}
    assert in_doubt == {row["id"] for row in rows if row["error_code"] == CRASHED}
    for life in lives:
        for each in life["comparisons"]:
            findings.cases[f"{each['counter']} {each['verdict']}"] += 1
            findings.differences.add((each["counter"], each["difference"]))


def _rows(inferry: Inferry) -> list[dict[str, Any]]:
    connection = sqlite3.connect(inferry.home / "ledger" / "ledger.sqlite")
    try:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM outcomes")]
    finally:
        connection.close()
