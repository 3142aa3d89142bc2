"""How a process ended, in words that an operator can read."""

from __future__ import annotations

import signal

CONFIG_EXIT_CODE = 78
"""EX_CONFIG of sysexits.h: our engine programs end with it when trying again would not help."""
TEMPORARY_EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: the same program may well start a moment later, or on another port."""
SAID_BY_US = "inferry: "
"""Begins each line that our own engine programs print to explain themselves."""


def exit_text(code: int) -> str:
    """`the engine exited with code 3`, or `the engine was killed by SIGKILL (by hand, or out of memory)`.

    `code` as `subprocess` counts: below 0, minus the signal's number.
    """
    if code >= 0:
        return f"the engine exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = {
        "SIGKILL": " (by hand, or out of memory)",
        "SIGSEGV": " (a crash in native code)",
        "SIGABRT": " (a crash in native code)",
        "SIGILL": " (this CPU lacks an instruction that the program needs)",
    }.get(name, "")
    return f"the engine was killed by {name}{hint}"


def last_words(lines: tuple[str, ...] | list[str]) -> str | None:
    """What one of our engine programs printed last to explain itself, if it did."""
    for line in reversed(lines):
        if line.startswith(SAID_BY_US):
            return line.removeprefix(SAID_BY_US)
    return None
