"""What `inferry up` says never stands in the way of what it does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from inferry.cli import speaker as speaker_module
from inferry.cli.speaker import LINES_MAX, Speaker


def test_all_is_said_in_order(tmp_path: Path) -> None:
    """Whoever leaves the context has said everything, signs outside ASCII too."""
    path = tmp_path / "said"
    with path.open("wb") as file, Speaker(file.fileno()) as speaker:
        for number in range(LINES_MAX):
            speaker.say(f"línea {number}")
    assert path.read_text(encoding="utf-8").splitlines() == [f"línea {n}" for n in range(LINES_MAX)]


def test_a_reader_that_has_gone_is_no_error() -> None:
    """A closed pipe ends the talk: nothing is raised, and the end takes no time."""
    reading, writing = os.pipe()
    os.close(reading)
    began_s = time.monotonic()
    with Speaker(writing) as speaker:
        for _ in range(3 * LINES_MAX):
            speaker.say("nobody hears this")
    os.close(writing)
    assert time.monotonic() - began_s < 0.5


def test_a_full_disk_is_no_error() -> None:
    """A line that can't be written is dropped."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("wb", buffering=0) as full, Speaker(full.fileno()) as speaker:
        speaker.say("this finds no room")


def test_nobody_listens() -> None:
    """Without a stdout there is nothing to do."""
    with Speaker(None) as speaker:
        speaker.say("into the void")


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_is_stuck_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, blocking: bool) -> None:
    """With a full pipe, saying is instant, lines are dropped behind a bound, and the end is bounded."""
    monkeypatch.setattr(speaker_module, "FLUSH_S", 0.1)
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    began_s = time.monotonic()
    with Speaker(writing) as speaker:
        for _ in range(3 * LINES_MAX):
            speaker.say("x" * 4096)
    assert time.monotonic() - began_s < 1.0
    os.close(reading)
    speaker._thread.join(10)
    os.close(writing)
