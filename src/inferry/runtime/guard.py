"""The guard: kills every engine when the process that started them is gone, however it went.

Run as a script (`python -I -S guard.py`) by runtime/orphan_guard.py, with a pipe as standard input whose only
writer is the process to outlive. Lines `+PGID` and `-PGID` register and forget process groups. End of file
means that the writer is dead (or done): every registered group gets SIGTERM, then SIGKILL.

Nothing else can do this on Linux and macOS alike: exit handlers don't run on `kill -9`, and "die with the
parent" (prctl) is Linux only and reaches one process, not its children.
"""

from __future__ import annotations

import os
import select
import signal

GRACE_S = 1.5
POLL_S = 0.02


def main() -> None:
    # Ctrl-C and a shutdown's signals are for the parent; this process ends when its work is done.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups = read_groups(0)
    end_groups(groups)


def read_groups(fd: int) -> set[int]:
    """The groups that are registered when the pipe's writer goes away. Blocks until then."""
    groups: set[int] = set()
    pending = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            return groups
        if not chunk:
            return groups
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            sign, number = line[:1], line[1:]
            # 0 and 1 would mean "my own group" and "everyone".
            if number.isdigit() and int(number) > 1:
                if sign == b"+":
                    groups.add(int(number))
                elif sign == b"-":
                    groups.discard(int(number))


def end_groups(groups: set[int]) -> None:
    """SIGTERM, up to GRACE_S for all together, SIGKILL."""
    alive = {group for group in groups if _signal(group, signal.SIGTERM)}
    for _ in range(int(GRACE_S / POLL_S)):
        # A stopped (SIGSTOP) process can't hear SIGTERM before it goes on.
        alive = {group for group in alive if _signal(group, signal.SIGCONT)}
        if not alive:
            return
        select.select([], [], [], POLL_S)
    for group in alive:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Whether the group still had a member that could be signalled."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
