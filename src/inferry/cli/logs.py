"""`inferry logs`: what the engines printed; also after the instance has ended."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path
from typing import IO, Annotated

import typer

from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.core.clock import pause_s
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home
from inferry.core.suggest import did_you_mean

POLL_S = 0.2


def logs(
    replica: Annotated[
        str | None, typer.Argument(metavar="REPLICA", help="Its id in 'inferry status'. Without: all.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="So many from the end.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    port: Port = None,
) -> None:
    """Show the engines' own output."""
    folder = _log_folder(inferry_home(os.environ), port)
    paths = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if replica is not None:
        if replica not in paths:
            raise ConfigError(f"There is no log of '{replica}'.{did_you_mean(replica, paths)}")
        paths = {replica: paths[replica]}
    if not paths:
        raise ConfigError(f"There are no logs in {folder}.")
    with_name = len(paths) > 1
    with contextlib.ExitStack() as stack:
        tails = [_Tail(path, f"{name} | " if with_name else "") for name, path in paths.items()]
        for tail in tails:
            stack.callback(tail.close)
            tail.last(lines)
        while follow:
            if not any([tail.more() for tail in tails]):  # noqa: C419 - each must be asked
                pause_s(POLL_S)


def _log_folder(home: Path, port: int | None) -> Path:
    from inferry.admin.run_record import find, run_folder, running

    if port is not None or running(home):
        wanted = port if port is not None and run_folder(home, port).exists() else None
        return run_folder(home, wanted or find(home, port, DEFAULT_FILE).port) / "logs"
    ended = sorted((home / "run").glob("*/logs"), key=lambda path: path.stat().st_mtime)
    if not ended:
        raise ConfigError("There are no logs: nothing has run here yet. Start with 'inferry up'.")
    return ended[-1]


class _Tail:
    """One log file, read on over its rotation."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._file: IO[bytes] = path.open("rb")

    def last(self, count: int) -> None:
        for line in deque(self._file, maxlen=count):
            self._say(line)

    def more(self) -> bool:
        """Print what is new; False if nothing is."""
        lines = self._file.readlines()
        for line in lines:
            self._say(line)
        if lines:
            return True
        try:
            rotated = self._path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False
        if rotated:
            self._file.close()
            self._file = self._path.open("rb")
        return rotated

    def close(self) -> None:
        self._file.close()

    def _say(self, line: bytes) -> None:
        typer.echo(self._prefix + line.decode(errors="replace").rstrip("\n"))
