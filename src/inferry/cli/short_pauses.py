"""Python's own pauses in a process that serves: its collector's, and threads that keep the interpreter to themselves.

What a request leaves behind is freed by reference counts as it ends; the collector is for the few cycles that
remain. It stops everything, for about a millisecond per 2,000 objects that it looks at: 19 ms were measured while
1,000 streams began, and 55 ms for a control process that had never been tidied.
"""

from __future__ import annotations

import gc
import sys

SWITCH_S = 0.0005
"""How long a thread that computes may keep the event loop waiting: Python's default is ten times that, and one
answer of the bank of limits would wait for as long when journals are loaded."""
YOUNG_MAX = 100_000
"""So many more objects than requests and connections account for: then the collector looks, whatever is going on."""
OBJECTS_PER_REQUEST = 50
OBJECTS_PER_CONNECTION = 30
"""Which the collector counts: a stream with the connections to its client and its engine was measured to have 63."""
QUIET_REQUESTS = 20
"""With at most so many under way, a collection makes few wait."""
QUIET_LOOKS = 10
"""In a row: connections to engines that a crowd has left behind are closed by then, and not looked at."""
WORTH_OBJECTS = 2_000


def keep_pauses_short() -> None:
    """When much of the program has been loaded: no collection looks at that again. Takes as long as one does."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)


class QuietMoments:
    """Has the collector look in a quiet moment, so that it need not do so in a busy one."""

    def __init__(self) -> None:
        self._quiet_looks = 0

    def look(self, requests: int, connections: int) -> None:
        """Once a second: so many requests are under way, and so many clients' connections open."""
        alive = OBJECTS_PER_REQUEST * requests + OBJECTS_PER_CONNECTION * connections
        self._quiet_looks = self._quiet_looks + 1 if requests <= QUIET_REQUESTS else 0
        if self._quiet_looks >= QUIET_LOOKS and gc.get_count()[0] >= WORTH_OBJECTS + alive:
            gc.collect()
        gc.set_threshold(YOUNG_MAX + alive, 10, 10)
