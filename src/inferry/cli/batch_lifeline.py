"""Two processes for one batch: the command that a person started, and the one that sends.

When the command is killed, even with -9, or its terminal is closed, nobody but the sending process has the answers
that are under way, and engines have generated them. So it lives on until these are in the journal, takes no further
request, and ends. It learns of the command's end from a pipe that only the command holds open: the lifeline.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping

from inferry.core.errors import ConfigError

LIFELINE = "INFERRY_BATCH_LIFELINE"
"""In the environment of the sending process: the descriptor of its end of the pipe."""


def is_sending_process(environ: Mapping[str, str]) -> bool:
    """Whether this is the process that sends."""
    return LIFELINE in environ


def run_sending_process(words: list[str]) -> int:
    """Run `inferry` with these words as the sending process; returns its exit code. Ctrl-C and SIGTERM go to it.

    Raises ConfigError if it is killed.
    """
    theirs, ours = os.pipe()
    try:
        child = subprocess.Popen(
            # -P: no file in the current folder is taken for a module.
            [sys.executable, "-P", "-m", "inferry", *words],
            env={**os.environ, LIFELINE: str(theirs)},
            pass_fds=[theirs],
            start_new_session=True,  # neither Ctrl-C nor the end of the terminal reaches it but through us
        )
    finally:
        os.close(theirs)
    before = {
        number: signal.signal(number, lambda *_: child.send_signal(signal.SIGINT))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        code = child.wait()
    finally:
        os.close(ours)
        for number, handler in before.items():
            signal.signal(number, handler)
    if code < 0:
        raise ConfigError(
            f"The process that sends the requests was killed ({signal.strsignal(-code)}). The same command goes on."
        )
    return code


def watch_lifeline(
    loop: asyncio.AbstractEventLoop, environ: Mapping[str, str], on_orphaned: Callable[[], None]
) -> None:
    """Call `on_orphaned` once the command is gone. What this process says is for nobody from then on."""
    lifeline = int(environ[LIFELINE])

    def on_end() -> None:
        loop.remove_reader(lifeline)
        # Writing to a terminal or pipe that is gone would fail, in the middle of what must still be done.
        silence = os.open(os.devnull, os.O_WRONLY)
        for handle in (1, 2):
            os.dup2(silence, handle)
        os.close(silence)
        on_orphaned()

    loop.add_reader(lifeline, on_end)
