"""Who decides for a fleet that several control processes look after: one, for as long as it says so.

A row in the store names the leader. The leader changes the row's `beat` all the time; whoever sees it unchanged for
LEASE_S *on its own clock* takes over, in one step that fails if the row has changed in between. No two clocks are ever
compared, so that no wrong one can make two leaders (Kubernetes' leader election observes its lease alike).

A leader trusts itself for TRUST_S from the moment when it began to ask for the last change that went through. Others
see that change later than that, and wait for longer than that: the old leader has stopped before a new one begins, as
long as no clock runs faster than another by LEASE_S / TRUST_S. One that was frozen, or cut off from the store, stops by
its own clock.
"""

from __future__ import annotations

from math import inf

from inferry.core.leader_row import LeaderRow, LeaderWrite

LEASE_S = 10.0
"""Without a sign of the leader for so long, another one takes over."""
TRUST_S = 7.0
"""Without having said so for so long, a leader is none."""
LOOK_S = 2.0
"""So often the row is looked at: a leader has three tries."""


class Candidacy:
    """One control process' side. Told what the row is, it says what to write; told whether that went through, it
    knows whether it leads. `me` must be nobody else's name, and none that was used before."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._row: LeaderRow | None = None
        self._unchanged_since_s = -inf
        self._until_s = -inf
        self._term = 0

    def leads(self, now_s: float) -> bool:
        """Whether it may decide now."""
        return now_s < self._until_s

    @property
    def term(self) -> int:
        """The one in which it led last; 0: it never did."""
        return self._term

    @property
    def holder(self) -> str:
        """Who led when the row was last seen; empty: nobody did."""
        return "" if self._row is None else self._row.holder

    def next_write(self, row: LeaderRow | None, now_s: float) -> LeaderWrite | None:
        """What to do about the row as it is now; None: wait."""
        if row != self._row:
            self._row, self._unchanged_since_s = row, now_s
        if row is None:
            return LeaderWrite(None, LeaderRow(self._me, 1, 0))
        if row.holder == self._me:
            return LeaderWrite(row, LeaderRow(self._me, row.term, row.beat + 1))
        if not row.holder or now_s - self._unchanged_since_s >= LEASE_S:
            return LeaderWrite(row, LeaderRow(self._me, row.term + 1, 0))
        return None

    def on_written(self, write: LeaderWrite, asked_s: float) -> None:
        """It went through; it was begun at `asked_s`."""
        self._row, self._unchanged_since_s = write.row, asked_s
        if write.row.holder == self._me:
            self._term, self._until_s = write.row.term, asked_s + TRUST_S

    def on_refused(self) -> None:
        """The row was another one by then: whoever changed it leads."""
        self._until_s = -inf

    def resignation(self) -> LeaderWrite | None:
        """It leads no more, and gives the row back, so that nobody has to wait; None: it does not hold it."""
        self._until_s = -inf
        row = self._row
        if row is None or row.holder != self._me:
            return None
        return LeaderWrite(row, LeaderRow("", row.term, row.beat + 1))
