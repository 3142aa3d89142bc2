"""Where the `inferry` command begins. So little is loaded here that Ctrl-C is caught while the rest still loads."""

from __future__ import annotations

import signal
import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; Ctrl-C ends it without a traceback, with the exit code that shells expect."""
    try:
        # Some parents ignore it, which is inherited: the system would then throw away our children's exit codes.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        from inferry.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
