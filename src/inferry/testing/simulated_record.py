"""What a simulated engine did for each request, line by line in a file that survives its kill -9.

A line is written before the client can have what it is about: what a client has is always in the file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inferry.core.clock import Clock


class _Line(msgspec.Struct, omit_defaults=True):
    id: str
    event: str
    """`begun`, `token`, `finished` or `dropped`."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    wall_s: float = 0.0
    """Of `begun`."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class RequestRecord:
    """Appends to `<folder>/<process id>.jsonl`. Ids are the requests' `x-request-id`; those without are left out."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        path = folder / f"{os.getpid()}.jsonl"
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, id: str | None, event: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        if id is not None:
            wall_s = self._clock.wall_s() if event == "begun" else 0.0
            line = _Line(id, event, prompt_tokens, completion_tokens, wall_s)
            os.write(self._handle, _encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._handle)


@dataclass(slots=True)
class Attempt:
    """What one engine process did for one request."""

    id: str
    engine_pid: int
    begun_wall_s: float
    prompt_tokens: int
    completion_tokens: int = 0
    """Generated, to the end or until the engine was killed or dropped it."""
    finished: bool = False


def read_record(folder: Path) -> list[Attempt]:
    """All attempts by the time they began; the half line of a killed engine is left out."""
    found: list[Attempt] = []
    for path in sorted(folder.glob("*.jsonl")):
        latest: dict[str, Attempt] = {}
        for text in path.read_bytes().split(b"\n")[:-1]:
            line = _decode(text)
            if line.event == "begun":
                attempt = latest[line.id] = Attempt(line.id, int(path.stem), line.wall_s, line.prompt_tokens)
                found.append(attempt)
            elif line.event == "token":
                latest[line.id].completion_tokens += 1
            elif line.id in latest:  # a fault can end a request before it has begun
                attempt = latest[line.id]
                attempt.finished = line.event == "finished"
                attempt.completion_tokens = line.completion_tokens
    return sorted(found, key=lambda attempt: attempt.begun_wall_s)
