"""The journal: what is written can be read, and a bad disk breaks nothing but is counted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from inferry.ledger.inflight_book import InflightBook, recover
from inferry.ledger.journal import LINE_BYTES_MAX, JournalWriter, read_piece
from inferry.ledger.locked_file import UNBORN, hold_if_free, sweep_unborn
from inferry.ledger.request_log import RequestLog

from .inflight import a_begun
from .outcomes import an_outcome


def ids_in(folder: Path) -> list[str]:
    pieces = [read_piece(path, 0, finished=True) for path in folder.glob("*.journal")]
    assert not any(piece.corrupt for piece in pieces)
    return sorted(outcome.id for piece in pieces for _, outcome in piece.entries)


def disk(monkeypatch: pytest.MonkeyPatch, take: Callable[[bytes], int]) -> None:
    """From now on, `take` says how many bytes of a write the disk takes; an OSError is raised."""
    write = os.write

    def faulty(handle: int, data: bytes) -> int:
        return write(handle, data[: take(data)])

    monkeypatch.setattr("inferry.ledger.journal.os.write", faulty)


def full(data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    """Each outcome comes back as it was, with the place of its line."""
    writer = JournalWriter(tmp_path, "gateway-0")
    outcomes = [an_outcome("a"), an_outcome("b", model='quote " and line\nbreak', cached_tokens=None)]
    assert [writer.append(outcome) for outcome in outcomes] == [True, True]
    piece = read_piece(writer.path, 0, finished=False)
    assert [outcome for _, outcome in piece.entries] == outcomes
    assert piece.entries[0][0] == 0
    assert piece.next_offset == writer.path.stat().st_size
    again = read_piece(writer.path, piece.entries[1][0], finished=False)
    assert [outcome.id for _, outcome in again.entries] == ["b"]
    writer.close()


def test_one_outcome_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the way of a request there is one system call per outcome, and it holds the whole line."""
    writes: list[bytes] = []

    def note(data: bytes) -> int:
        writes.append(data)
        return len(data)

    disk(monkeypatch, note)
    writer = JournalWriter(tmp_path, "gateway-0")
    for number in range(3):
        writer.append(an_outcome(str(number)))
    assert len(writes) == 3
    assert all(data.endswith(b"}\n") and data.count(b"\n") == 1 for data in writes)
    writer.close()


def test_a_torn_last_line_waits_while_its_writer_lives(tmp_path: Path) -> None:
    """Half a line is not read as long as the other half may come; of a finished file, it is reported."""
    path = tmp_path / "torn"
    path.write_bytes(b'{"id":"half')
    assert read_piece(path, 0, finished=False).next_offset == 0
    piece = read_piece(path, 0, finished=True)
    assert piece.corrupt == [(0, b'{"id":"half')]
    assert piece.next_offset == path.stat().st_size


def test_corrupt_lines_are_reported_and_passed_over(tmp_path: Path) -> None:
    """A damaged line costs itself alone."""
    writer = JournalWriter(tmp_path, "gateway-0")
    writer.append(an_outcome("a"))
    with writer.path.open("ab") as file:
        file.write(b"\0\0\0garbage\n")
    writer.append(an_outcome("b"))
    piece = read_piece(writer.path, 0, finished=False)
    assert [outcome.id for _, outcome in piece.entries] == ["a", "b"]
    assert [line for _, line in piece.corrupt] == [b"\0\0\0garbage\n"]
    writer.close()


def test_pieces_of_any_size_give_the_same_lines(tmp_path: Path) -> None:
    """A line longer than a piece, or cut by its edge, is read whole and once."""
    writer = JournalWriter(tmp_path, "gateway-0")
    for number in range(9):
        writer.append(an_outcome(str(number)))
    for bytes_max in (1, 100, 777, 10_000):
        seen, offset = [], 0
        while (piece := read_piece(writer.path, offset, finished=False, bytes_max=bytes_max)).entries:
            seen += [outcome.id for _, outcome in piece.entries]
            offset = piece.next_offset
        assert seen == [str(number) for number in range(9)]
    writer.close()


def test_files_turn_over_by_size(tmp_path: Path) -> None:
    """A long-lived process leaves many files of bounded size; only the last one is still locked."""
    writer = JournalWriter(tmp_path, "gateway-0", file_bytes_max=1000)
    for number in range(10):
        writer.append(an_outcome(f"{number}"))
    paths = list(tmp_path.glob("*.journal"))
    assert len(paths) > 3
    assert max(path.stat().st_size for path in paths) < 2000
    locked = []
    for path in paths:
        with hold_if_free(path) as free:
            locked += [] if free else [path]
    assert locked == [writer.path]
    assert ids_in(tmp_path) == [str(number) for number in range(10)]
    writer.close()


def test_a_full_disk_loses_nothing_that_fits_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that the disk refuses are written with the next append that it takes, in order."""
    writer = JournalWriter(tmp_path, "gateway-0")
    with monkeypatch.context() as patch:
        disk(patch, full)
        assert [writer.append(an_outcome(name)) for name in "ab"] == [False, False]
    assert (writer.waiting, writer.failures) == (2, 2)
    assert writer.append(an_outcome("c")) is True
    assert (writer.waiting, writer.lost) == (0, 0)
    piece = read_piece(writer.path, 0, finished=False)
    assert [outcome.id for _, outcome in piece.entries] == ["a", "b", "c"]
    writer.close()


def test_a_line_taken_in_part_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes a few bytes at a time ends up with whole lines."""
    writer = JournalWriter(tmp_path, "gateway-0")
    with monkeypatch.context() as patch:
        disk(patch, lambda data: min(len(data), 7))
        assert writer.append(an_outcome("a")) is False
    assert read_piece(writer.path, 0, finished=False).entries == []
    assert writer.append(an_outcome("b")) is True
    assert ids_in(tmp_path) == ["a", "b"]
    writer.close()


def test_memory_is_bounded_and_the_loss_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a disk that stays full, the oldest lines are kept up to the bound, and each lost one is counted."""
    writer = JournalWriter(tmp_path, "gateway-0", waiting_bytes_max=2000)
    with monkeypatch.context() as patch:
        disk(patch, full)
        for number in range(20):
            writer.append(an_outcome(f"{number:02}"))
    assert writer.waiting + writer.lost == 20
    assert writer.lost > 10
    kept = writer.waiting
    writer.close()
    assert ids_in(tmp_path) == [f"{number:02}" for number in range(kept)]


def test_an_outcome_that_can_not_be_written_breaks_nothing(tmp_path: Path) -> None:
    """A text that is no Unicode is counted as lost; the next outcome is written."""
    writer = JournalWriter(tmp_path, "gateway-0")
    assert writer.append(an_outcome("a", request_id="\ud800")) is False
    assert writer.append(an_outcome("b")) is True
    assert writer.lost == 1
    writer.close()


def test_nobody_fills_a_disk_with_names(tmp_path: Path) -> None:
    """A model's name of a megabyte becomes a line of ordinary length."""
    writer = JournalWriter(tmp_path, "gateway-0")
    assert writer.append(an_outcome("a", model="m" * 10**6, request_id="r" * 10**6)) is True
    assert writer.path.stat().st_size < LINE_BYTES_MAX
    ((_, outcome),) = read_piece(writer.path, 0, finished=False).entries
    assert (outcome.model, outcome.tenant) == ("m" * 200, "acme")
    writer.close()


def test_nobody_sees_a_file_before_its_lock(tmp_path: Path) -> None:
    """A file is born under another name; one whose maker died before the lock is swept away, a living one not."""
    (tmp_path / f"{UNBORN}gone.journal").touch()
    writer = JournalWriter(tmp_path, "gateway-0")
    sweep_unborn(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [writer.path.name]
    with hold_if_free(writer.path) as free:
        assert free is False
    writer.close()
    with hold_if_free(writer.path) as free:
        assert free is True


def test_a_slot_stays_open_until_its_line_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk refuses a request's line, its slot holds the record; with the line written, it ends."""
    both = RequestLog(tmp_path, "gateway-0")
    slot = both.begin(a_begun("a"))
    with monkeypatch.context() as patch:
        disk(patch, full)
        both.finish(slot, an_outcome("a"))
    assert [outcome.id for outcome in recover(both.book.path).outcomes] == ["a"]
    both.finish(None, an_outcome("b"))
    assert recover(both.book.path).outcomes == []
    assert ids_in(tmp_path) == ["a", "b"]
    both.close()


def test_a_lost_line_leaves_its_slot_to_the_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the memory for lines full, each request is in the journal in the end or in the book, and in one only."""
    both = RequestLog(tmp_path, "gateway-0")
    both.journal._waiting_bytes_max = 1500
    slots = {name: both.begin(a_begun(name)) for name in "abcdef"}
    with monkeypatch.context() as patch:
        disk(patch, full)
        for name in "abcde":
            both.finish(slots[name], an_outcome(name))
    lost = both.journal.lost
    both.finish(slots["f"], an_outcome("f"))
    assert (lost > 0, both.journal.lost, both.journal.waiting) == (True, lost, 0)
    in_book = sorted(outcome.id for outcome in recover(both.book.path).outcomes)
    assert len(in_book) == lost
    assert sorted([*ids_in(tmp_path), *in_book]) == list("abcdef")
    assert "f" not in in_book
    both.close()


def test_an_outcome_without_a_line_leaves_its_slot_to_the_loader(tmp_path: Path) -> None:
    """What can't be written is not forgotten: the book still has the request."""
    both = RequestLog(tmp_path, "gateway-0")
    both.finish(both.begin(a_begun("a")), an_outcome("a", request_id="\ud800"))
    both.finish(both.begin(a_begun("b")), an_outcome("b"))
    assert [outcome.id for outcome in recover(both.book.path).outcomes] == ["a"]
    both.close()


def test_what_waits_needs_no_next_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`flush` writes the lines that the disk had refused, and ends their slots."""
    both = RequestLog(tmp_path, "gateway-0")
    with monkeypatch.context() as patch:
        disk(patch, full)
        both.finish(both.begin(a_begun("a")), an_outcome("a"))
        both.flush()
        assert both.book.open_slots == 1
    both.flush()
    assert (ids_in(tmp_path), both.book.open_slots) == (["a"], 0)
    both.close()


def test_after_the_end_nothing_is_written_anywhere(tmp_path: Path) -> None:
    """A file that got the journal's old handle stays empty; the late outcome is counted as lost."""
    both = RequestLog(tmp_path / "log", "gateway-0")
    handle = both.journal._handle
    both.close()
    both.close()
    other = tmp_path / "other"
    os.dup2(taken := os.open(other, os.O_RDWR | os.O_CREAT), handle)
    both.finish(both.begin(a_begun("a")), an_outcome("a"))
    both.flush()
    both.close()
    assert (other.read_bytes(), ids_in(tmp_path / "log"), both.journal.lost) == (b"", [], 1)
    for each in {taken, handle}:
        os.close(each)


def test_no_room_for_the_book_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of the two files can't be made, the other is let go."""

    def no_room(folder: Path, name: str) -> InflightBook:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("inferry.ledger.request_log.InflightBook", no_room)
    with pytest.raises(OSError, match="No space"):
        RequestLog(tmp_path, "gateway-0")
    (path,) = tmp_path.iterdir()
    with hold_if_free(path) as free:
        assert free is True
