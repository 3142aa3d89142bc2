"""The journal: what was written is there again, whatever was cut off behind it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from inferry.batch.journal import Header, Journal, journal_path
from inferry.batch.record import Failure, Record, failed_entry
from inferry.core.errors import ConfigError

HEADER = Header("run1", "sha", None, "EUR")


def record(line: int, **changes: object) -> Record:
    return msgspec.structs.replace(
        Record(line, msgspec.Raw(b'{"id":%d}' % line), None, 3, 1, 5, 700), **changes
    )


def opened(path: Path, wanted: Header = HEADER, lines: int = 10) -> Journal:
    return Journal(path, wanted, lines)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return journal_path(tmp_path / "out.jsonl")


def test_it_stands_beside_the_output(tmp_path: Path) -> None:
    """Its name is the output's and `.journal`."""
    assert journal_path(tmp_path / "out.jsonl") == tmp_path / "out.jsonl.journal"


def test_records_are_there_after_a_reopening(path: Path) -> None:
    """Records, sums and the run's id are those of the first opening; input order comes from the lines."""
    journal = opened(path)
    for line in (7, 2, 9):
        journal.append(record(line))
    journal.append(record(3, failure="400"))
    tally = journal.tally
    journal.close()
    again = opened(path, Header("run2", "sha", None, "EUR"))
    assert again.header.run == "run1"
    assert again.tally == tally
    assert (tally.completed, tally.failures["400"], tally.cost_nano) == (3, 1, 2800)
    assert [each.line for each in again.in_input_order()] == [2, 3, 7, 9]
    assert [line for line in range(1, 11) if again.has(line)] == [2, 3, 7, 9]
    again.close()


@pytest.mark.parametrize("cut_bytes", [1, 5, 30])
def test_a_line_that_was_cut_is_dropped_and_written_over(path: Path, cut_bytes: int) -> None:
    """A record of which only the beginning is there counts as never written, and what comes next is whole."""
    journal = opened(path)
    journal.append(record(1))
    journal.append(record(2))
    journal.close()
    os.truncate(path, path.stat().st_size - cut_bytes)
    again = opened(path)
    assert [again.has(line) for line in (1, 2)] == [True, False]
    again.append(record(5))
    again.close()
    last = opened(path)
    assert [each.line for each in last.in_input_order()] == [1, 5]
    last.close()


@pytest.mark.parametrize("nonsense", [b"garbage", b"\x00\xff", b"[" * 100_000, b'{"line":3,"entry":{}', b""])
def test_nonsense_in_the_middle_costs_no_other_line(path: Path, nonsense: bytes) -> None:
    """A line that is no record is skipped and named, also after the next opening; all others are as they were."""
    journal = opened(path)
    for line in (1, 2, 4):
        journal.append(record(line))
    tally = journal.tally
    journal.close()
    header, first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, first, nonsense + b"\n", *rest]))
    again = opened(path)
    assert (again.damaged, again.tally) == ([3], tally)
    assert [each.line for each in again.in_input_order()] == [1, 2, 4]
    again.append(record(3))
    again.close()
    last = opened(path)
    assert last.damaged == [3]
    assert [each.line for each in last.in_input_order()] == [1, 2, 3, 4]
    last.close()


def test_nothing_but_nonsense_is_still_a_journal(path: Path) -> None:
    """It is not written over by a run of another input, and not deleted by one that ends before anything is over."""
    path.write_bytes(msgspec.json.encode(HEADER) + b"\ngarbage\n")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is of another input"):
        opened(path, Header("r", "other", None, "EUR"))
    opened(path).close()
    assert path.read_bytes() == before


def test_a_record_beyond_the_input_is_not_believed(path: Path) -> None:
    """A line number that the input does not have is no place to keep anything."""
    journal = opened(path)
    journal.append(record(1))
    journal.append(record(9))
    journal.close()
    again = opened(path, lines=5)
    assert [each.line for each in again.in_input_order()] == [1]
    assert again.damaged == [3]
    again.close()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Header("r", "other", None, "EUR"), "is of another input"),
        (Header("r", "sha", "chat", "EUR"), "was begun with no --model, this is --model chat"),
        (Header("r", "sha", None, "USD"), "counts in EUR, the prices are in USD"),
    ],
)
def test_another_run_is_not_gone_on_with(path: Path, wanted: Header, said: str) -> None:
    """Answers to other requests, of another model or in another currency never get into one output."""
    journal = opened(path)
    journal.append(record(1))
    journal.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=said):
        opened(path, wanted)
    assert path.read_bytes() == before


def test_without_prices_one_may_go_on(path: Path) -> None:
    """A currency that is not known is no other currency."""
    journal = opened(path)
    journal.append(record(1))
    journal.close()
    again = opened(path, Header("r", "sha", None, None))
    assert again.header.currency == "EUR"
    again.close()


def test_an_empty_one_binds_nobody(path: Path) -> None:
    """Where nothing was over yet, another input may take its place; an ordered end leaves no empty journal."""
    path.write_bytes(msgspec.json.encode(HEADER) + b"\n")
    journal = opened(path, Header("run2", "other", "chat", None))
    assert journal.header.run == "run2"
    journal.close()
    assert not path.exists()


@pytest.mark.parametrize("length", [0, 3, 20])
def test_a_header_that_was_cut_is_a_new_journal(path: Path, length: int) -> None:
    """Killed while the first line was written: nothing had been sent."""
    path.write_bytes(msgspec.json.encode(HEADER)[:length])
    journal = opened(path)
    journal.append(record(1))
    journal.close()
    again = opened(path)
    assert again.has(1)
    again.close()


@pytest.mark.parametrize("text", [b"my notes", b"my notes\n", b'{"run": 7}\n'])
def test_a_file_of_somebody_elses_is_left_alone(path: Path, text: bytes) -> None:
    """What is no journal is neither written to nor deleted."""
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="is no journal of a batch"):
        opened(path)
    assert path.read_bytes() == text


def test_two_runs_into_one_output_are_one_too_many(path: Path) -> None:
    """The second one is told so, and disturbs nothing."""
    first = opened(path)
    with pytest.raises(ConfigError, match="is in use"):
        opened(path)
    first.append(record(1))
    assert [each.line for each in first.in_input_order()] == [1]
    first.close()


def test_closed_twice_it_leaves_other_files_alone(path: Path) -> None:
    """A file that was opened after the journal's deletion, and has its number, stays open when it is closed again."""
    journal = opened(path)
    journal.append(record(1))
    journal.discard()
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
    journal.close()
    for handle in others:
        os.close(handle)
    assert not path.exists()


def test_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    """The path and the reason are named."""
    with pytest.raises(ConfigError, match="can't be written: Is a directory"):
        opened(tmp_path)


def test_entries_are_kept_as_they_are(path: Path) -> None:
    """What goes into the output is byte by byte what was appended, texts of all kinds among it."""
    entry = failed_entry("run1", 4, 'ü"\n ', Failure("x", "\x00 北京"))
    journal = opened(path)
    journal.append(Record(4, entry, "x"))
    [kept] = journal.in_input_order()
    assert bytes(kept.entry) == bytes(entry)
    journal.close()
