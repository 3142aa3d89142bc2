"""Where a running Inferry leaves word of itself, and how others find it: `INFERRY_HOME/run/PORT/`.

A gateway's port is taken by one program at a time, so it names an instance. The record holds no secrets; the
control socket lies in a folder of its own with mode 0700, in the temporary directory, because a socket's path
may only be about 100 bytes long and homes can be deep.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from inferry.core.errors import ConfigError

SOCKET_PATH_BYTES_MAX = 103
"""What fits into `sun_path` on macOS (104 with the zero at its end); Linux has 108."""
_SOCKET_NAME = "control"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One running instance."""

    port: int
    pid: int
    url: str
    file: str
    socket: str
    started_wall_s: float

    def alive(self) -> bool:
        """Whether somebody listens on its control socket. A process id alone can belong to another by now.

        An instance that is too busy to take one more connection is alive.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2.0)
            try:
                probe.connect(self.socket)
            except (BlockingIOError, TimeoutError):
                return True
            except OSError:
                return False
        return True


def run_folder(home: Path, port: int) -> Path:
    """Where the instance on `port` keeps its record and its replicas' logs."""
    return home / "run" / str(port)


@contextlib.contextmanager
def map_home_errors(home: Path) -> Iterator[None]:
    """Makes an OSError below `home` a ConfigError that names the path and the way out."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{error.filename or home}: {error.strerror or error}. Inferry keeps its records and logs below {home}: "
            "make that a folder that you can write to, or name another one in INFERRY_HOME."
        ) from error


def make_run_folder(home: Path, port: int) -> Path:
    """`run_folder`, made where it is missing. Logs may hold what users wrote: for the owner's eyes only.

    Raises ConfigError where it can't be made or written to.
    """
    folder = run_folder(home, port)
    with map_home_errors(home):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    return folder


def publish(home: Path, record: RunRecord) -> None:
    """Write the record, so that it appears whole or not at all."""
    folder = make_run_folder(home, record.port)
    temporary = folder / f".instance.{os.getpid()}"
    with map_home_errors(home):
        temporary.write_bytes(msgspec.json.encode(asdict(record)))
        temporary.replace(folder / "instance.json")


def withdraw(home: Path, record: RunRecord) -> None:
    """Remove the record and the control socket; logs stay."""
    control = Path(record.socket)
    with contextlib.suppress(OSError):  # gone already; and a folder that holds more is not ours to delete
        control.unlink(missing_ok=True)
        control.parent.rmdir()
    path = run_folder(home, record.port) / "instance.json"
    if _read(path) == record:  # not by pid: in a container, the next instance often has the same
        path.unlink(missing_ok=True)


def new_socket_path() -> Path:
    """A fresh path for a control socket that no other user can reach.

    In the temporary directory; in /tmp where that one's path is too long for a socket. Raises ConfigError where
    neither will do.
    """
    problems: list[str] = []
    for base in dict.fromkeys((_temporary_folder(), "/tmp")):
        if len(os.fsencode(f"{base}/inferry-12345678/{_SOCKET_NAME}")) > SOCKET_PATH_BYTES_MAX:
            problems.append(f"{base}: too long for a socket's path")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="inferry-", dir=base)) / _SOCKET_NAME
        except OSError as error:
            problems.append(f"{base}: {error.strerror or error}")
    raise ConfigError(
        f"There is no place for the control socket ({'; '.join(problems)}). "
        "Name a folder with a short path that you can write to in TMPDIR."
    )


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # no candidate can be written to
        return "/tmp"


def running(home: Path) -> list[RunRecord]:
    """All live instances; records of dead ones are cleaned away."""
    found: list[RunRecord] = []
    for path in sorted((home / "run").glob("*/instance.json")):
        record = _read(path)
        if record is None:
            continue
        if record.alive():
            found.append(record)
        else:
            withdraw(home, record)
    return found


def find(home: Path, port: int | None, file: Path | None = None) -> RunRecord:
    """The instance that is meant: the one on `port`, the one of `file`, or the only one.

    Raises ConfigError that lists what runs.
    """
    records = running(home)
    if not records:
        raise ConfigError("Nothing is running here. Start something with 'inferry up'.")
    listing = ", ".join(f"{record.port} ({record.file})" for record in records)
    if port is not None:
        for record in records:
            if record.port == port:
                return record
        raise ConfigError(f"Nothing is running on port {port}. Running: {listing}.")
    if len(records) == 1:
        return records[0]
    if file is not None:
        same = [record for record in records if record.file == str(file.resolve())]
        if len(same) == 1:
            return same[0]
    raise ConfigError(f"Several are running: {listing}. Say which with --port.")


def _read(path: Path) -> RunRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except (OSError, msgspec.MsgspecError):
        return None
