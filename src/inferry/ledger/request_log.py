"""One process's journal and inflight book as one: a request that has begun is on disk in one of them, or in both."""

from __future__ import annotations

from pathlib import Path

from inferry.core.outcome import Outcome
from inferry.ledger.inflight_book import InflightBook
from inferry.ledger.journal import JournalWriter


class RequestLog:
    """begin, then `counts[slot] += n` for each token relayed, then finish. For one thread."""

    def __init__(self, folder: Path, name: str) -> None:
        """Makes both files in `folder`; raises OSError where there is no room for them."""
        self.journal = JournalWriter(folder, name)
        try:
            self.book = InflightBook(folder, name)
        except OSError:
            self.journal.close()
            raise
        self._unwritten: list[int] = []
        """Slots of requests whose lines wait in memory: they end when those are written."""
        self.begin = self.book.begin
        self.move = self.book.move

    @property
    def counts(self) -> memoryview[int]:
        return self.book.counts

    def finish(self, slot: int | None, outcome: Outcome) -> None:
        """The request's end, in the journal before the answer ends. `slot` is None for one that never began."""
        lost = self.journal.lost
        written = self.journal.append(outcome)
        if slot is not None:
            if written:
                self.book.end(slot)
            elif self.journal.lost == lost:
                self._unwritten.append(slot)
            # else the slot is the only record of this request, and stays open for the loader.
        self._end_written()

    def flush(self) -> None:
        """Try again to write what waits; to be called now and then, as the next outcome may be long in coming."""
        self.journal.flush()
        self._end_written()

    def troubles(self) -> dict[str, int]:
        """Counters for operators: `lost` outcomes, `write_failures` of the disk, requests `without_slot` in the book."""
        return {
            "lost": self.journal.lost,
            "write_failures": self.journal.failures,
            "without_slot": self.book.overflowed,
        }

    def close(self) -> None:
        """At shutdown, when all requests have ended. Slots whose lines never reached the disk stay for the loader."""
        self.flush()
        self.journal.close()
        self.book.close()

    def _end_written(self) -> None:
        if self._unwritten and not self.journal.waiting:
            for slot in self._unwritten:
                self.book.end(slot)
            self._unwritten.clear()
