"""`scaling.jsonl` in a run's folder: what happened to the numbers of replicas, and why, one JSON object a line.

An event is told when it happens and again when its outcome is known; reading takes the last word. A line is one write
to a file opened for appending: a kill leaves at most one cut line, which reading passes over and counts. A full file
becomes `scaling.1.jsonl`, in place of the one before, so that there are two at most. The runs on a port follow each
other in the same file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from inferry.fleet.scaler_event import EventKind, ScalingEvent

log = structlog.get_logger()

NAME, OLD_NAME = "scaling.jsonl", "scaling.1.jsonl"
BYTES_MAX = 4 * 1024 * 1024
"""Of each of the two: some thousands of events, with all that was looked at."""
_ENDED = "Inferry ended meanwhile"


@dataclass(frozen=True, slots=True)
class PastEvent:
    """One event as it stands in the journal."""

    run: str
    """Which life of Inferry; `event.number` counts within it."""
    event: ScalingEvent


@dataclass(frozen=True, slots=True)
class Past:
    """What a journal holds, oldest first."""

    events: tuple[PastEvent, ...]
    damaged: int = 0
    """Lines that can't be read: cut by a kill or by a full disk."""


class ScalingJournal:
    """Written by one process. A disk that takes nothing is told of once, and stops no scaling."""

    def __init__(self, folder: Path, run: str, bytes_max: int = BYTES_MAX) -> None:
        """`run` tells this life of Inferry from others on the same port."""
        self._folder = folder
        self._run = run
        self._bytes_max = bytes_max
        self._is_broken = False
        self.decisions: dict[tuple[str, str, str], int] = {}
        """By deployment, direction (`up`, `down`) and rule: changes in this life."""

    def append(self, event: ScalingEvent) -> None:
        """Some 50 us; never raises for the disk's sake."""
        if event.kind is EventKind.CHANGE and not event.outcome:
            key = (event.deployment, "up" if event.to > event.was else "down", event.rule)
            self.decisions[key] = self.decisions.get(key, 0) + 1
        line = msgspec.json.encode(PastEvent(self._run, event)) + b"\n"
        try:
            self._write(line)
        except OSError as error:
            if not self._is_broken:
                log.error("scaling_journal_not_written", folder=str(self._folder), error=str(error))
            self._is_broken = True
        else:
            self._is_broken = False

    def _write(self, line: bytes) -> None:
        path = self._folder / NAME
        if path.exists() and path.stat().st_size + len(line) > self._bytes_max:
            path.replace(self._folder / OLD_NAME)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            # Behind a line that a kill has cut, a new one begins.
            is_cut = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            os.write(fd, (b"\n" if is_cut else b"") + line)
        finally:
            os.close(fd)


def read_journal(folder: Path, running: str | None = None) -> Past:
    """All that `folder` has; nothing where there is no journal. Raises OSError.

    `running`: the life of Inferry that goes on. What others left under way has no outcome any more.
    """
    found: dict[tuple[str, int], PastEvent] = {}
    damaged = 0
    for line in _lines(folder):
        try:
            past = _DECODER.decode(line)
        except msgspec.MsgspecError:
            damaged += 1
            continue
        found[past.run, past.event.number] = past
    for past in found.values():
        event = past.event
        if past.run != running and event.kind is EventKind.CHANGE and not event.outcome:
            event.outcome = _ENDED
    return Past(tuple(found.values()), damaged)


def journal_ports(runs: Path) -> list[int]:
    """Those below `runs`, a folder of run folders, which are named by ports, that have a journal."""
    return sorted({int(path.parent.name) for path in runs.glob(f"*/{NAME}") if path.parent.name.isdigit()})


_DECODER = msgspec.json.Decoder(PastEvent)


def _lines(folder: Path) -> Iterable[bytes]:
    # The newer one first: if it becomes the older one meanwhile, it is read twice, and nothing is missed.
    newer = _content(folder / NAME)
    return (line for content in (_content(folder / OLD_NAME), newer) for line in content.split(b"\n") if line)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
