"""`inferry batch` as a person runs it, killed and resumed, over simulated engines that keep their own record.

The seed is printed; set INFERRY_CHAOS_SEED to repeat a run's choices.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from inferry.testing.simulated_engine import RECORD_VARIABLE
from inferry.testing.simulated_record import Attempt, read_record

from .accounting_chaos import seeded_dice
from .inferry_process import Inferry, Up, wait_for

FILE = """
ledger: {currency: EUR}
deployments:
  chat:
    engine: simulated
    replicas: 2
    ttft_ms: 20
    itl_ms: 2
    price: {prompt_per_mtok: 0.5, completion_per_mtok: 1.5}
"""
CONCURRENCY = 12


@dataclass(frozen=True, slots=True)
class Kill:
    """What was in the journal when a run had been killed, and when that was."""

    wall_s: float
    lines: frozenset[int]


class Batches:
    """Batches in one folder, and what the engines and the ledger have of them."""

    def __init__(self, inferry: Inferry) -> None:
        self.inferry = inferry
        self._record = inferry.folder / "record"
        self._record.mkdir()
        inferry.environ[RECORD_VARIABLE] = str(self._record)

    def write_input(self, count: int, dice: random.Random) -> list[str]:
        """`in.jsonl`, and its ids in order: an order that no sorting gives."""
        ids = [f"ask-{number}" for number in range(count)]
        dice.shuffle(ids)
        lines = []
        for id in ids:
            body = {
                "model": "chat",
                "messages": [{"role": "user", "content": f"What of {id}?"}],
                "max_tokens": dice.randint(5, 40),
            }
            lines.append(
                json.dumps({"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body})
            )
        self.inferry.write("\n".join(lines) + "\n", "in.jsonl")
        return ids

    def begin(self, output: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "inferry",
                "batch",
                "in.jsonl",
                output,
                "-c",
                str(CONCURRENCY),
                "--json",
                *words,
            ],
            cwd=self.inferry.folder,
            env=self.inferry.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def whole(self, output: str) -> dict[str, Any]:
        """The summary of a run to its end."""
        process = self.begin(output)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        summary: dict[str, Any] = json.loads(out)
        return summary

    def broken_off(self, output: str, after: int, number: signal.Signals) -> tuple[int, Kill]:
        """A run that gets a signal once `after` requests are over; its exit code, and what it left."""
        process = self.begin(output)

        def far_enough() -> bool:
            assert process.poll() is None, process.communicate()
            return len(self.journal(output)) >= after

        try:
            wait_for(f"{after} requests are over", far_enough)
        finally:
            process.send_signal(number)
            process.communicate(timeout=60)
        return process.returncode, Kill(time.time(), frozenset(each["line"] for each in self.journal(output)))

    def journal(self, output: str) -> list[Any]:
        """Whole records in the journal."""
        path = self.inferry.folder / f"{output}.journal"
        text = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in text.split(b"\n")[1:-1]]

    def answers(self, output: str) -> list[Any]:
        return [json.loads(line) for line in (self.inferry.folder / output).read_text().splitlines()]

    def attempts(self, run: str) -> dict[int, list[Attempt]]:
        """What the engines did, by the line of the input."""
        found: dict[int, list[Attempt]] = {}
        for attempt in read_record(self._record):
            prefix, _, line = attempt.id.rpartition("-")
            if prefix == f"batch-{run}":
                found.setdefault(int(line), []).append(attempt)
        return found

    def billed(self, run: str) -> Counter[int]:
        """Completed requests in the ledger, by the line of the input. Inferry must have ended."""
        connection = sqlite3.connect(self.inferry.home / "ledger" / "ledger.sqlite")
        try:
            rows = connection.execute(
                "SELECT request_id FROM outcomes WHERE ending = 'completed' AND request_id LIKE ?",
                (f"batch-{run}-%",),
            )
            return Counter(int(id.rpartition("-")[2]) for (id,) in rows)
        finally:
            connection.close()


@pytest.fixture
def batches(tmp_path: Path) -> Batches:
    return Batches(Inferry(tmp_path))


@pytest.fixture
def up(batches: Batches) -> Iterator[Up]:
    """An Inferry that takes the batches."""
    batches.inferry.write(FILE)
    with batches.inferry.up() as up:
        up.wait_ready()
        yield up


def run_of(answers: list[Any]) -> str:
    [run] = {each["id"].split("_")[2] for each in answers}
    return str(run)


def text_of(entry: Any) -> str:
    return str(entry["response"]["body"]["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("count", "kills"), [(150, 2), pytest.param(500, 7, marks=[pytest.mark.slow, pytest.mark.timeout(240)])]
)
def test_killed_and_resumed_nothing_is_lost_or_answered_twice(
    batches: Batches, up: Up, count: int, kills: int
) -> None:
    """Killed with -9 at random moments and resumed: each id is in the output once, in order, with its own answer; what
    was over is never sent again, and only what was under way at a kill can have been completed twice."""
    dice = seeded_dice()
    ids = batches.write_input(count, dice)
    undisturbed = batches.whole("undisturbed.jsonl")
    assert undisturbed["completed"] == count
    moments = sorted(dice.sample(range(1, count - 2 * CONCURRENCY), kills))
    killed = [batches.broken_off("out.jsonl", after, signal.SIGKILL)[1] for after in moments]
    assert not (batches.inferry.folder / "out.jsonl").exists()
    summary = batches.whole("out.jsonl")
    assert (summary["completed"], summary["failed"], summary["left"]) == (count, 0, 0)
    assert summary["sent_in_this_run"] == count - len(killed[-1].lines)
    for same in ("prompt_tokens", "completion_tokens", "cost", "currency"):
        assert summary[same] == undisturbed[same]

    answers = batches.answers("out.jsonl")
    assert [each["custom_id"] for each in answers] == ids
    assert len({each["id"] for each in answers}) == count
    # The simulated engine answers a question always in the same words: an answer under a wrong id would show.
    assert [*map(text_of, answers)] == [*map(text_of, batches.answers("undisturbed.jsonl"))]
    assert not list(batches.inferry.folder.glob("out.jsonl.*"))

    run = run_of(answers)
    assert up.control("POST", "/shutdown", {}).status_code == 200
    up.process.wait(30)
    attempts, billed = batches.attempts(run), batches.billed(run)
    lines = set(range(1, count + 1))
    assert attempts.keys() == billed.keys() == lines
    under_way: set[int] = set()
    for kill in killed:
        again = {
            line for line in kill.lines if any(each.begun_wall_s > kill.wall_s for each in attempts[line])
        }
        assert again == set(), "sent again, although it was over"
        cut = {
            line
            for line in lines - kill.lines
            if any(each.begun_wall_s < kill.wall_s for each in attempts[line])
        }
        assert len(cut - under_way) <= CONCURRENCY
        under_way |= cut
    for line in lines - under_way:
        assert [each.finished for each in attempts[line]] == [True]
        assert billed[line] == 1
    twice = {line for line in lines if sum(each.finished for each in attempts[line]) > 1}
    sys.stdout.write(
        f"{len(under_way)} were under way at a kill, {len(twice)} of them were completed twice\n"
    )
    assert twice <= under_way


def test_after_ctrl_c_each_request_was_sent_once(batches: Batches, up: Up) -> None:
    """Ctrl-C lets the requests under way come to their end: the run exits with 130, the next one does the rest, and the
    engines have completed each request exactly once and dropped none."""
    ids = batches.write_input(120, seeded_dice())
    code, left = batches.broken_off("out.jsonl", 40, signal.SIGINT)
    assert code == 130
    assert 40 <= len(left.lines) < 120
    summary = batches.whole("out.jsonl")
    assert summary["sent_in_this_run"] == 120 - len(left.lines)
    answers = batches.answers("out.jsonl")
    assert [each["custom_id"] for each in answers] == ids
    attempts = batches.attempts(run_of(answers))
    assert attempts.keys() == set(range(1, 121))
    assert [line for line, tried in attempts.items() if [each.finished for each in tried] != [True]] == []


def test_a_service_that_dies_and_comes_back(batches: Batches) -> None:
    """A service that is killed in the middle and starts anew on its port costs a batch only that time: it ends with 0,
    every answer in its place."""

    def serve(port: str) -> subprocess.Popen[str]:
        program = [
            sys.executable,
            "-m",
            "inferry.testing.simulated_engine",
            "--port",
            port,
            "--served-name",
            "chat",
        ]
        process = subprocess.Popen([*program, "--ttft-ms", "20"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        addresses.append(process.stdout.readline().split()[-1])
        return process

    addresses: list[str] = []
    ids = batches.write_input(100, seeded_dice())
    service = serve("0")
    try:
        run = batches.begin("out.jsonl", "--url", f"{addresses[0]}/v1")
        wait_for("30 requests are over", lambda: len(batches.journal("out.jsonl")) >= 30)
        service.kill()
        service.communicate()
        service = serve(addresses[0].rpartition(":")[2])
        out, err = run.communicate(timeout=60)
    finally:
        service.kill()
        service.communicate()
    assert run.returncode == 0, err
    assert json.loads(out)["completed"] == 100
    answers = batches.answers("out.jsonl")
    assert [each["custom_id"] for each in answers] == ids
    assert {each["response"]["status_code"] for each in answers} == {200}
