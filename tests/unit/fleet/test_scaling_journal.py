"""What is kept of scaling: every event, its outcome, and through a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inferry.fleet.scaler_event import EventKind, ScalingEvent
from inferry.fleet.scaling_journal import NAME, OLD_NAME, ScalingJournal, read_journal
from inferry.policy.scaling.decision import Wish


def change(number: int, to: int = 3, **more: object) -> ScalingEvent:
    event = ScalingEvent(
        number,
        10.0 * number,
        1000.0 + number,
        "chat",
        EventKind.CHANGE,
        2,
        to,
        rule="rules[0] gpu_use",
        because="0.91 is above 0.8 for 300 s",
        inputs={"gpu_use": 0.91, "queue_depth": None},
        wishes=(Wish("rules[0] gpu_use", to, "0.91"), Wish("rules[1] queue_depth", None, "no data")),
        serving=2,
        came=("chat-2",),
    )
    return replace(event, **more)  # type: ignore[arg-type]


def test_an_event_comes_back_whole_with_its_last_word(tmp_path: Path) -> None:
    """Inputs, wishes, rule, reason and effect are all there; told twice, it is one event, where it first stood."""
    journal = ScalingJournal(tmp_path, "7-1")
    first, second = change(1), change(2, kind=EventKind.ALERT, came=())
    journal.append(first)
    journal.append(second)
    first.outcome, first.took_s = "chat-2 serving after 4.0 s", 4.0
    journal.append(first)
    past = read_journal(tmp_path, running="7-1")
    assert [each.event for each in past.events] == [first, second]
    assert past.damaged == 0


def test_runs_follow_each_other_and_what_was_under_way_has_ended(tmp_path: Path) -> None:
    """Two lives of Inferry count from 1 each; of the one that is over, nothing is under way any more."""
    ScalingJournal(tmp_path, "7-1").append(change(1, came=("old-1",)))
    ScalingJournal(tmp_path, "8-2").append(change(1))
    old, new = read_journal(tmp_path, running="8-2").events
    assert (old.run, old.event.came, old.event.outcome) == ("7-1", ("old-1",), "Inferry ended meanwhile")
    assert (new.run, new.event.outcome) == ("8-2", "")


def test_a_line_that_a_kill_cut_is_passed_over_and_counted(tmp_path: Path) -> None:
    """Everything before and after it is there."""
    journal = ScalingJournal(tmp_path, "7-1")
    journal.append(change(1))
    journal.append(change(2))
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-40])
    journal.append(change(3))
    past = read_journal(tmp_path)
    assert [each.event.number for each in past.events] == [1, 3]
    assert past.damaged == 1


def test_it_stays_small(tmp_path: Path) -> None:
    """However much happens, two files of bounded size hold the newest of it, without a gap."""
    journal = ScalingJournal(tmp_path, "7-1", bytes_max=4000)
    for number in range(1, 101):
        journal.append(change(number))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 5000
    numbers = [each.event.number for each in read_journal(tmp_path).events]
    assert numbers == list(range(numbers[0], 101))
    assert 5 < len(numbers) < 30
    assert (tmp_path / OLD_NAME).exists()


def test_no_journal_is_no_past(tmp_path: Path) -> None:
    """Where nothing happened yet, there is nothing to read."""
    assert read_journal(tmp_path / "nowhere").events == ()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_disk_that_refuses_is_told_of_once(tmp_path: Path, is_there: bool) -> None:
    """Scaling goes on without its journal, and the log says so, once until it can be written again."""
    folder = tmp_path / "folder"
    journal = ScalingJournal(folder, "7-1")
    if is_there:
        folder.write_text("no folder")
    with capture_logs() as logs:
        journal.append(change(1))
        journal.append(change(2))
    assert [entry["event"] for entry in logs] == ["scaling_journal_not_written"]
