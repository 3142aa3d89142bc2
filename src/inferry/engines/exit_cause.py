"""What an engine's last lines say went wrong, for engines that are programs of others."""

from __future__ import annotations

import re
from collections.abc import Sequence

from inferry.engines.exit_text import exit_text

USAGE_EXIT_CODE = 2
"""Of argparse, click, typer and clap alike: the command line is not understood, however often it is tried."""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = "│┃|╭╰─╮╯ "
"""What typer's error boxes are drawn with."""
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception): \S.*")
_COMPLAINT = re.compile(
    r"\b[Ee]rror: \S.*|(?:No such option|Invalid value|Missing argument|Got unexpected extra).*"
)
_CHARS_MAX = 300


def cause_in(log_tail: Sequence[str]) -> str | None:
    """The last exception in a log, else the last complaint about an argument; None when there is neither.

    Exceptions first: a launcher's own last word (`Error: ShardCannotStart`) says less than what it was told.
    """
    lines = [" ".join(_ANSI.sub("", line).split()).strip(_FRAME) for line in log_tail]
    for pattern in (_EXCEPTION, _COMPLAINT):
        for line in reversed(lines):
            found = pattern.search(line)
            if found is not None:
                return found[0][:_CHARS_MAX]
    return None


def exit_with_cause(code: int, log_tail: Sequence[str]) -> str:
    """`the engine exited with code 1: not enough GPU memory (torch.OutOfMemoryError: CUDA out of memory. ...)`.

    `code` as `subprocess` counts.
    """
    cause = cause_in(log_tail) if code > 0 else None
    if cause is None:
        return exit_text(code)
    if "out of memory" in cause.lower():
        cause = f"not enough GPU memory ({cause})"
    return f"{exit_text(code)}: {cause}"
