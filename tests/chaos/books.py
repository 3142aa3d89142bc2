"""The ledger after a run of chaos, held against what clients heard: one outcome for each request, and its very sums."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.inferry_process import Inferry

from .stand import COMPLETION_NANO, PROMPT_NANO
from .strict_client import Heard


@dataclass(slots=True)
class Books:
    """What the ledger has, by the id that the client gave its request."""

    rows: dict[str, dict[str, Any]]
    faults: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)
    """Differences to the engines' own counters for which `inferry ledger reconcile` finds no cause."""

    def resumed(self, heard: Sequence[Heard]) -> list[Heard]:
        """Those whose stream went on at another replica."""
        return [each for each in heard if self.rows[each.ask.id]["resumes"] > 0]

    def counts(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for row in self.rows.values():
            counts[row["ending"]] += 1
            counts["resumes"] += row["resumes"]
            counts["resumed streams"] += row["resumes"] > 0
            counts["retries"] += row["attempts"] - 1 - row["resumes"]
        return counts


def read_books(inferry: Inferry, heard: Sequence[Heard]) -> Books:
    """To be called when Inferry has ended in order: all that is in a journal is in the ledger then."""
    rows = _rows(inferry)
    books = Books({row["request_id"]: row for row in rows})
    if len(books.rows) != len(rows):
        books.faults.append(f"{len(rows) - len(books.rows)} requests are in the ledger twice")
    asked = {each.ask.id for each in heard}
    if asked != books.rows.keys():
        books.faults.append(
            f"not in the ledger: {sorted(asked - books.rows.keys())[:5]}; "
            f"only in the ledger: {sorted(books.rows.keys() - asked)[:5]}"
        )
    for each in heard:
        if each.ask.id in books.rows and not each.faults:
            books.faults += _faults_of_row(each, books.rows[each.ask.id])
    books.faults += _faults_of_sums(inferry, rows)
    books.unexplained = _unexplained(inferry)
    return books


def _faults_of_row(heard: Heard, row: dict[str, Any]) -> list[str]:
    expected = heard.ask.expected
    wanted = {
        "ending": "completed",
        "status": 200,
        "error_code": None,
        "usage_from": "engine",
        "prompt_tokens": expected.prompt_tokens,
        "completion_tokens": expected.completion_tokens,
        "finish_reason": expected.finish_reason,
        "cost_nano": PROMPT_NANO * expected.prompt_tokens + COMPLETION_NANO * expected.completion_tokens,
    }
    return [
        f"{heard.ask.id} ({row['attempts']} attempts, {row['resumes']} resumes): {name} is {row[name]!r}, not {value!r}"
        for name, value in wanted.items()
        if row[name] != value
    ]


def _faults_of_sums(inferry: Inferry, rows: Sequence[dict[str, Any]]) -> list[str]:
    """`inferry usage` says what the single outcomes add up to."""
    done = inferry.run("usage", "--json")
    if done.returncode != 0:
        return [f"inferry usage: {done.stderr}"]
    total = json.loads(done.stdout)["total"]
    wanted = {"requests": len(rows)}
    for name in ("prompt_tokens", "completion_tokens"):
        wanted[name] = sum(row[name] or 0 for row in rows)
    return [
        f"usage: {name} {total[name]}, not {value}" for name, value in wanted.items() if total[name] != value
    ]


def _unexplained(inferry: Inferry) -> list[str]:
    done = inferry.run("ledger", "reconcile", "--json")
    if not done.stdout:
        return [f"inferry ledger reconcile: {done.stderr}"]
    return [
        f"reconcile: {life['replica']} {each}"
        for life in json.loads(done.stdout)
        for each in life["comparisons"]
        if each["verdict"] not in ("exact", "explained", "unknown")
    ]


def _rows(inferry: Inferry) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(inferry.home / "ledger" / "ledger.sqlite")) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("SELECT * FROM outcomes")]
