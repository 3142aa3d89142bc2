"""How running instances are found, and dead ones forgotten."""

from __future__ import annotations

import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from inferry.admin.run_record import (
    SOCKET_PATH_BYTES_MAX,
    RunRecord,
    find,
    make_run_folder,
    new_socket_path,
    publish,
    run_folder,
    running,
    withdraw,
)
from inferry.core.errors import ConfigError

Start = Callable[..., RunRecord]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Publishes an instance below `tmp_path`; `dead`: its control socket has no listener any more."""
    listeners: list[socket.socket] = []
    folders: list[Path] = []

    def make(
        port: int, *, dead: bool = False, file: str = "/f.yaml", pid: int = 1, backlog: int = 8
    ) -> RunRecord:
        path = new_socket_path()
        folders.append(path.parent)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(backlog)
        listeners.append(listener)
        if dead:
            listener.close()
        record = RunRecord(port, pid, f"http://127.0.0.1:{port}", file, str(path), 0.0)
        publish(tmp_path, record)
        return record

    yield make
    for listener in listeners:
        listener.close()
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def test_nothing_runs(tmp_path: Path) -> None:
    """A fresh home has no instances, and says how to get one."""
    assert running(tmp_path) == []
    with pytest.raises(ConfigError, match=r"Nothing is running here\. Start something with 'inferry up'\."):
        find(tmp_path, None)


def test_the_only_one_is_found(tmp_path: Path, start: Start) -> None:
    """One instance needs no port; a wrong port is told what runs, and never gets another instance."""
    record = start(8000)
    assert running(tmp_path) == [record]
    assert find(tmp_path, None) == find(tmp_path, 8000) == record
    with pytest.raises(ConfigError) as caught:
        find(tmp_path, 8001)
    assert caught.value.message == "Nothing is running on port 8001. Running: 8000 (/f.yaml)."


def test_one_of_several(tmp_path: Path, start: Start) -> None:
    """Of several, the port decides, or the file if only one serves it."""
    files = [tmp_path / name for name in ("a.yaml", "b.yaml", "b.yaml")]
    records = [start(8000 + n, file=str(file)) for n, file in enumerate(files)]
    assert find(tmp_path, 8001) == records[1]
    assert find(tmp_path, None, files[0]) == records[0]
    assert find(tmp_path, None, tmp_path / "x" / ".." / "a.yaml") == records[0]
    for file in (None, files[1], tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match=r"Several are running: 8000 .*8001 .*8002 .*--port"):
            find(tmp_path, None, file)


def test_records_of_dead_ones_are_cleaned(tmp_path: Path, start: Start) -> None:
    """An instance that was killed leaves a record and a socket: both go, its logs stay."""
    dead, alive = start(8000, dead=True), start(8001)
    log = run_folder(tmp_path, 8000) / "logs" / "chat-0.log"
    log.parent.mkdir()
    log.write_text("x")
    assert running(tmp_path) == [alive]
    assert not (run_folder(tmp_path, 8000) / "instance.json").exists()
    assert not Path(dead.socket).parent.exists()
    assert log.exists()
    assert find(tmp_path, None) == alive


def test_a_dead_one_does_not_count_as_several(tmp_path: Path, start: Start) -> None:
    """After a crash and a new start there is one instance, and no question which."""
    start(8000, dead=True)
    record = start(8001)
    assert find(tmp_path, None) == record


@pytest.mark.parametrize("content", [b"", b"{", b'{"port": 8000}', b"[]", b'{"port": "x"}', b"\xff"])
def test_damaged_records_are_passed_over(tmp_path: Path, start: Start, content: bytes) -> None:
    """What is no record hides no instance."""
    folder = run_folder(tmp_path, 7000)
    folder.mkdir(parents=True)
    (folder / "instance.json").write_bytes(content)
    record = start(8000)
    assert running(tmp_path) == [record]


def test_withdraw_takes_only_its_own(tmp_path: Path, start: Start) -> None:
    """The next instance on the same port keeps its record, even under the same process id."""
    first = start(8000)
    second = start(8000)
    assert (first.pid, first.port) == (second.pid, second.port)
    withdraw(tmp_path, first)
    assert running(tmp_path) == [second]
    withdraw(tmp_path, second)
    assert running(tmp_path) == []
    withdraw(tmp_path, second)  # twice is no error


def test_withdraw_deletes_no_foreign_files(tmp_path: Path, start: Start) -> None:
    """A record that names a socket in some folder never costs that folder's content."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letter").write_text("x")
    withdraw(tmp_path, replace(start(8000), socket=str(precious / "control")))
    assert (precious / "letter").exists()


def test_a_busy_instance_is_alive(tmp_path: Path, start: Start) -> None:
    """An instance whose queue of connections is full is neither dead nor cleaned away."""
    record = start(8000, backlog=0)
    waiting = []
    try:
        with pytest.raises(BlockingIOError):
            for _ in range(10):
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(record.socket)
        assert record.alive()
        assert running(tmp_path) == [record]
    finally:
        for one in waiting:
            one.close()


def test_record_appears_whole(tmp_path: Path, start: Start) -> None:
    """Publishing again replaces the record, and leaves no temporary file."""
    record = start(8000)
    publish(tmp_path, replace(record, pid=2))
    assert [each.pid for each in running(tmp_path)] == [2]
    assert [path.name for path in run_folder(tmp_path, 8000).iterdir()] == ["instance.json"]


def test_control_socket_is_for_its_owner_only() -> None:
    """The socket's folder can be entered by its owner alone, and its path is short enough to bind."""
    path = new_socket_path()
    try:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert len(str(path)) < 100
    finally:
        path.parent.rmdir()


def test_a_deep_temporary_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TMPDIR is too long for a socket's path, the socket lies in /tmp, and can be bound."""
    deep = tmp_path / ("d" * SOCKET_PATH_BYTES_MAX)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    path = new_socket_path()
    try:
        assert path.parent.parent == Path("/tmp")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    finally:
        shutil.rmtree(path.parent)


def test_no_place_for_the_control_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no temporary folder will do, the message says why, and which variable names another."""

    def refuse(**_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "tempdir", "/" + "d" * SOCKET_PATH_BYTES_MAX)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(ConfigError, match=r"too long for a socket's path; /tmp: Permission denied.*TMPDIR"):
        new_socket_path()


def test_the_run_folder_is_for_its_owner_only(tmp_path: Path) -> None:
    """Mode 0700, also where an earlier version has made it wider."""
    run_folder(tmp_path, 8000).mkdir(parents=True, mode=0o755)
    for port in (8000, 8001):
        assert stat.S_IMODE(make_run_folder(tmp_path, port).stat().st_mode) == 0o700


def test_a_home_that_is_a_file(tmp_path: Path) -> None:
    """The message names the path, what is wrong with it, and the variable that names another."""
    home = tmp_path / "home"
    home.write_text("")
    with pytest.raises(ConfigError, match=r"home.*: Not a directory\. .*INFERRY_HOME"):
        make_run_folder(home, 8000)
