"""One pull per model at a time, over all processes of the machine."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.2
"""How soon a waiting process sees that the other one is done; a person does not notice it."""


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file at `path`; blocks while another process or thread holds it.

    `on_wait` is called about every POLL_S while waiting, and may raise to give up. The kernel frees the lock
    of a process that dies, so nothing stale is ever left. The file itself stays: deleting it would let a
    newcomer lock a new file while another still waits on the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    pause = threading.Event()
    with path.open("ab") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                on_wait()
                pause.wait(POLL_S)
        yield
