"""`inferry batch` as a person runs it, killed and resumed, over simulated engines that keep their own record.

The seed is printed; set INFERRY_CHAOS_SEED to repeat a run's choices.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
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
    ttft_ms: 100
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

    @contextlib.contextmanager
    def running(self, output: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A run in the background; what it says goes to `said` and `complained`."""
        with self._file("said").open("wb") as said, self._file("complained").open("wb") as complained:
            options = ["-c", str(CONCURRENCY), "--json", *words]
            process = subprocess.Popen(
                [sys.executable, "-m", "inferry", "batch", "in.jsonl", output, *options],
                cwd=self.inferry.folder,
                env=self.inferry.environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=complained,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def whole(self, output: str, *words: str) -> dict[str, Any]:
        """The summary of a run to its end."""
        with self.running(output, *words) as process:
            code = process.wait(100)
        assert code == 0, self._file("complained").read_text()
        summary: dict[str, Any] = json.loads(self._file("said").read_text())
        return summary

    def broken_off(
        self, output: str, after: int, end: Callable[[subprocess.Popen[bytes]], None]
    ) -> tuple[int, Kill]:
        """A run that is ended once `after` requests are over; its exit code, and what was left at that moment."""
        begun_with = len(self.journal(output))
        with self.running(output) as process:

            def far_enough() -> bool:
                assert process.poll() is None, self._file("complained").read_text()
                return len(self.journal(output)) >= max(after, begun_with + 1)

            wait_for(f"{after} requests are over", far_enough, 60.0)
            end(process)
            code = process.wait(60)
        return code, Kill(time.time(), frozenset(each["line"] for each in self.journal(output)))

    def _file(self, name: str) -> Path:
        return self.inferry.folder / name

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


def kill_the_command(process: subprocess.Popen[bytes]) -> None:
    """What a person does who types `kill -9` and the command's process id."""
    process.kill()


def kill_everything(process: subprocess.Popen[bytes]) -> None:
    """What a machine does that runs out of memory, or a container that is taken away."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    for pid in (int(children[0]), process.pid):
        os.kill(pid, signal.SIGKILL)


SMALL = pytest.param(150, 2, id="small", marks=[pytest.mark.slow, pytest.mark.timeout(300)])
LARGE = pytest.param(500, 7, id="large", marks=[pytest.mark.slow, pytest.mark.timeout(600)])


def kill_and_resume(
    batches: Batches, up: Up, count: int, kills: int, kill: Callable[[subprocess.Popen[bytes]], None]
) -> tuple[list[Kill], dict[int, list[Attempt]], Counter[int]]:
    """Kills a run several times at random moments and resumes it to its end; what must be so however it was killed.

    Returns the kills, what the engines did and what the ledger billed, by the line of the input.
    """
    dice = seeded_dice()
    ids = batches.write_input(count, dice)
    undisturbed = batches.whole("undisturbed.jsonl")
    assert undisturbed["completed"] == count
    # Steps so wide that a killed run, which finishes what is under way, is not at the next moment already.
    steps = dice.sample(range(count * 6 // 10 // (2 * CONCURRENCY)), kills)
    moments = [CONCURRENCY * (1 + 2 * step) for step in sorted(steps)]
    killed = [batches.broken_off("out.jsonl", after, kill)[1] for after in moments]
    assert not (batches.inferry.folder / "out.jsonl").exists()
    summary = batches.whole("out.jsonl")
    assert (summary["completed"], summary["failed"], summary["left"]) == (count, 0, 0)
    assert 0 < summary["sent_in_this_run"] <= count - len(killed[-1].lines)
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
    assert attempts.keys() == billed.keys() == set(range(1, count + 1))
    for each in killed:
        again = {n for n in each.lines if any(tried.begun_wall_s > each.wall_s for tried in attempts[n])}
        assert again == set(), "sent again, although it was over"
    return killed, attempts, billed


@pytest.mark.parametrize(("count", "kills"), [SMALL, LARGE])
def test_killed_and_resumed_each_request_is_completed_once(
    batches: Batches, up: Up, count: int, kills: int
) -> None:
    """The command is killed with -9 at random moments, and started again at once: each id is in the output once, in
    order, with its own answer; the engines completed each request exactly once and dropped none, and the ledger bills
    each once."""
    _, attempts, billed = kill_and_resume(batches, up, count, kills, kill_the_command)
    assert [n for n, tried in attempts.items() if [each.finished for each in tried] != [True]] == []
    assert set(billed.values()) == {1}


@pytest.mark.parametrize(("count", "kills"), [LARGE])
def test_whatever_is_killed_nothing_is_lost(batches: Batches, up: Up, count: int, kills: int) -> None:
    """All processes of a batch are killed with -9: nothing is lost, what was over is never sent again, and only what was
    under way at that moment, which nobody has the answers of, is."""
    killed, attempts, billed = kill_and_resume(batches, up, count, kills, kill_everything)
    under_way: set[int] = set()
    for kill in killed:
        cut = {
            n
            for n, tried in attempts.items()
            if n not in kill.lines and any(each.begun_wall_s < kill.wall_s for each in tried)
        }
        assert len(cut - under_way) <= CONCURRENCY
        under_way |= cut
    for line in attempts.keys() - under_way:
        assert [each.finished for each in attempts[line]] == [True]
        assert billed[line] == 1
    twice = {line for line, tried in attempts.items() if sum(each.finished for each in tried) > 1}
    sys.stdout.write(
        f"{len(under_way)} were under way at a kill, {len(twice)} of them were completed twice\n"
    )
    assert twice <= under_way


def test_after_ctrl_c_each_request_was_sent_once(batches: Batches, up: Up) -> None:
    """Ctrl-C lets the requests under way come to their end: the run exits with 130, the next one does the rest, and the
    engines have completed each request exactly once and dropped none."""
    ids = batches.write_input(120, seeded_dice())
    code, left = batches.broken_off("out.jsonl", 40, lambda process: process.send_signal(signal.SIGINT))
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
        with batches.running("out.jsonl", "--url", f"{addresses[0]}/v1") as run:
            wait_for("30 are over", lambda: len(batches.journal("out.jsonl")) >= 30, 60.0)
            service.kill()
            service.communicate()
            service = serve(addresses[0].rpartition(":")[2])
            assert run.wait(60) == 0
    finally:
        service.kill()
        service.communicate()
    answers = batches.answers("out.jsonl")
    assert [each["custom_id"] for each in answers] == ids
    assert {each["response"]["status_code"] for each in answers} == {200}
