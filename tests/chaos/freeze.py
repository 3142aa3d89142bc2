"""An engine that is stopped (SIGSTOP) under load, and what was sent to it while it stood still."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from inferry.testing.simulated_record import read_record

from .books import Books
from .campaign import Harm, Scene

OUT_WITHIN_S = 3.0
"""From then on, a frozen engine may get no new request."""


@dataclass(slots=True)
class Freeze:
    """One engine, and when it stood still. Wall-clock times, as in the ledger and in the engines' record."""

    replica_id: str = ""
    pid: int = 0
    begun_wall_s: float = 0.0
    ended_wall_s: float = 0.0
    begun_s: float = 0.0
    """On the monotonic clock, as clients note their times."""

    def harm(self, after_s: float, for_s: float) -> Harm:
        """Stop a random ready replica, and let it go on later."""

        async def stop_and_continue(scene: Scene) -> None:
            await scene.load.pause(after_s)
            ready = await scene.stand.ready()
            self.replica_id = scene.dice.choice(list(ready))
            self.pid = ready[self.replica_id]["pid"]
            os.kill(self.pid, signal.SIGSTOP)
            self.begun_wall_s, self.begun_s = time.time(), time.monotonic()
            scene.note(f"SIGSTOP for {self.replica_id}, pid {self.pid}")
            try:
                await scene.load.pause(for_s)
            finally:
                self.ended_wall_s = time.time()
                try:
                    os.kill(self.pid, signal.SIGCONT)
                    scene.note(f"SIGCONT for {self.replica_id}")
                except ProcessLookupError:
                    scene.note(f"{self.replica_id} is gone: it was ended meanwhile")

        return stop_and_continue

    def sent_too_late(self, books: Books, record: Path) -> list[str]:
        """Requests that came more than 3 s after it stopped, and that it found on its socket when it went on."""
        late = []
        for attempt in read_record(record):
            row = books.rows.get(attempt.id)
            if row is None or attempt.engine_pid != self.pid:
                continue
            after_s = row["received_wall_s"] - self.begun_wall_s
            if after_s > OUT_WITHIN_S and row["received_wall_s"] < self.ended_wall_s:
                late.append(f"{attempt.id}: {after_s:.2f} s after SIGSTOP")
        return late
