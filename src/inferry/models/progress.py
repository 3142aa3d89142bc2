"""How a pull tells its caller how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Is told how a pull goes on, always from the thread that pulls.

    A pull goes through one phase after another (ask, download, check); each is `start`, any number of
    `advance`, `finish`. `advance(0)` comes while there is nothing new, so an exception raised in `advance`
    ends the pull soon after: it passes through `pull` as it is, and what was fetched stays resumable.
    """

    def start(self, label: str, total_bytes: int | None) -> None:
        """A phase begins; None: nobody knows how much there is to do."""

    def advance(self, new_bytes: int) -> None:
        """So many more bytes are done; what an earlier pull left behind counts too."""

    def finish(self) -> None:
        """The phase is over, well or not."""


class SilentProgress:
    """Tells nobody."""

    def start(self, label: str, total_bytes: int | None) -> None:
        pass

    def advance(self, new_bytes: int) -> None:
        pass

    def finish(self) -> None:
        pass


@contextmanager
def phase(progress: Progress, label: str, total_bytes: int | None) -> Iterator[None]:
    """One phase, finished on every way out."""
    progress.start(label, total_bytes)
    try:
        yield
    finally:
        progress.finish()
