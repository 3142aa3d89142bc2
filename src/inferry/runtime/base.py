"""The contract of a runtime: it starts, stops and reports; it never decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inferry.core.launch import LaunchOrder
from inferry.core.replica import Endpoint

EXIT_CODE_UNKNOWN = 255
"""Somebody else has reaped the process (SIGCHLD was ignored, say), and its code went with it."""


@dataclass(frozen=True, slots=True)
class Exit:
    code: int
    """As `subprocess` gives it: below 0, minus the signal's number. EXIT_CODE_UNKNOWN if it was lost."""
    because: str = ""
    """What the runtime knows and the code does not tell: its node is lost, there was no room for it."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What can be seen of a replica's processes from outside."""

    cpu_s: float
    """CPU time that they have used so far, in steps of the kernel's clock (10 ms). Falls when one of them ends."""
    stopped: bool
    """One of them is stopped by a signal (SIGSTOP, Ctrl-Z): it does nothing until it is told to go on."""


class Handle(Protocol):
    """One started replica. Valid until `stop` has returned or `wait` has."""

    @property
    def replica_id(self) -> str: ...

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""

    @property
    def pid(self) -> int | None:
        """None where its number means nothing to this machine."""

    @property
    def log_path(self) -> Path:
        """On this machine; one that runs elsewhere may have it written when it has ended."""

    async def ended(self) -> Exit:
        """Returns at the moment the replica's process ends, or the machine that it is on is lost: what is left of its
        group may still be dying. May be awaited by several."""

    async def wait(self) -> Exit:
        """Returns when the replica's process has ended, all it printed is in the log, and nothing of its
        process group is left, as far as its machine answers. May be awaited by several."""

    def log_tail(self) -> Sequence[str]:
        """The last lines that it printed (bounded), oldest first."""

    def vitals(self) -> Vitals | None:
        """How its processes are at this moment; None where this can't be seen."""


class Runtime(Protocol):
    async def start(self, order: LaunchOrder) -> Handle:
        """Start a replica. Returns once the process runs, not when it is ready; where there is no room for it, waits
        and says so, and gives up with a handle that has ended already: another try may find room.

        Raises StartFailed when the program can't be run at all, so that no try would help. Cancelled, it leaves
        nothing behind.
        """

    async def stop(self, handle: Handle, grace_s: float) -> Exit:
        """Ask it to end, wait up to `grace_s`, then kill its whole process group; with 0, kill at once. Idempotent.

        If it is cancelled while it waits, it kills at once.
        """

    def kill_now(self) -> None:
        """Kill all that runs. From here on there is no grace: each `stop` kills at once, those under way too."""

    def let_go(self) -> None:
        """We end, and whatever the settings say shall outlive us stays: a `stop` from here on only gives it back."""

    def running(self) -> Sequence[Handle]: ...

    async def close(self) -> None:
        """Kill whatever still runs, and release everything."""
