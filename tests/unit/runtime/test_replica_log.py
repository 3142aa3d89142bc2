"""What a replica prints is kept: bounded, and never in its way."""

from __future__ import annotations

from pathlib import Path

from inferry.runtime.replica_log import LINE_CHARS_MAX, ReplicaLog


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_rotates_at_line_ends_and_keeps_few_files(tmp_path: Path) -> None:
    """Files are moved on when full, whole lines stay together, and the oldest file goes."""
    log = ReplicaLog(tmp_path / "x.log", file_bytes_max=10, files_max=3)
    for line in (b"one one 1\n", b"two ", b"two 2\n", b"three\nfour\n", b"five 5555\nsix\n"):
        log.write(line)
    log.close()
    kept = files(tmp_path)
    assert set(kept) == {"x.log", "x.log.1", "x.log.2"}
    assert kept["x.log"] == "five 5555\nsix\n"
    assert all(text.endswith("\n") for text in kept.values())
    assert kept["x.log.2"] == "two two 2\n"


def test_a_line_longer_than_the_file_is_split(tmp_path: Path) -> None:
    """Output without line ends can't grow a file beyond its cap and one write."""
    log = ReplicaLog(tmp_path / "x.log", file_bytes_max=10, files_max=2)
    for _ in range(20):
        log.write(b"abcdef")
    log.close()
    assert all(len(text) <= 16 for text in files(tmp_path).values())


def test_appends_to_what_is_there(tmp_path: Path) -> None:
    """A restarted replica goes on in the same file, and what is in there counts."""
    path = tmp_path / "x.log"
    path.write_text("before!!!\n")
    log = ReplicaLog(path, file_bytes_max=10, files_max=2)
    log.write(b"after\n")
    log.close()
    assert files(tmp_path) == {"x.log": "after\n", "x.log.1": "before!!!\n"}


def test_tail_holds_the_last_lines_and_the_unfinished_one(tmp_path: Path) -> None:
    """Lines cut over two writes are whole, the tail is bounded, and bytes that are no UTF-8 don't hurt."""
    log = ReplicaLog(tmp_path / "x.log", tail_lines_max=3)
    for chunk in (b"a\nb\nc", b"c\nd\n\xff", b"e\r\n", b"half"):
        log.write(chunk)
    assert log.tail() == ["cc", "d", "�e", "half"]
    assert log.tail(2) == ["�e", "half"]
    log.close()


def test_progress_bars_and_endless_lines_are_bounded(tmp_path: Path) -> None:
    """A bar that rewrites its line shows its last state; a line without end doesn't fill the memory."""
    log = ReplicaLog(tmp_path / "x.log")
    log.write(b"10%\r50%\r100%\n")
    for _ in range(100):
        log.write(b"x" * 1000)
    assert log.tail()[0] == "100%"
    assert len(log.tail()[1]) <= LINE_CHARS_MAX + 1
    log.close()


def test_a_file_that_cant_be_written_costs_only_lines(tmp_path: Path) -> None:
    """While the folder is no folder, lines are counted and the tail goes on; then the loss is written down."""
    blocked = tmp_path / "logs"
    blocked.write_text("in the way")
    log = ReplicaLog(blocked / "x.log")
    log.write(b"lost line\n")
    assert log.tail() == ["lost line"]
    blocked.unlink()
    log.write(b"kept line\n")
    log.close()
    assert (blocked / "x.log").read_text() == "\n[inferry: 10 bytes of output were lost here]\nkept line\n"


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """Logs may hold what users wrote."""
    log = ReplicaLog(tmp_path / "x.log")
    log.write(b"x\n")
    log.close()
    assert (tmp_path / "x.log").stat().st_mode & 0o077 == 0
