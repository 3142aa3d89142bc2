"""The launcher: waits for leave, then becomes the engine. The pid stays the same.

Run as a script (`python -I -S launch.py GO_FD STATUS_FD PROGRAM ARGUMENT...`) as the leader of a new session.
It blocks on GO_FD until the parent has registered this process group with the guard and writes one byte, so
that there is no moment in which the parent may die and leave an engine behind. End of file instead of the
byte: the parent is gone, so go too. If PROGRAM can't be run, the reason goes to STATUS_FD; otherwise that
one closes by itself in the moment of the exec.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> int:
    go_fd, status_fd = int(arguments[0]), int(arguments[1])
    program = arguments[2:]
    _die_with_parent()
    if os.read(go_fd, 1) == b"":
        return 0
    os.close(go_fd)
    os.set_inheritable(status_fd, False)
    # Python ignores SIGPIPE, and ignored signals stay ignored across exec: engines expect the defaults. A
    # parent that was started with SIGTERM ignored or blocked must not make its engines deaf either, nor one
    # with SIGCHLD ignored (some service managers) take their children's exit codes from them.
    for number in (
        signal.SIGPIPE,
        signal.SIGXFSZ,
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGCHLD,
    ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvpe(program[0], program, os.environ)
    except OSError as error:
        os.write(status_fd, f"{error.strerror or error}".encode())
    except ValueError as error:
        os.write(status_fd, str(error).encode())
    return 127


def _die_with_parent() -> None:
    """Linux only, and only a second line behind the guard: it also holds when both are killed at once.

    The kernel sends the signal when the thread that started us ends: that is the event loop's.
    """
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
