"""Calls back at a time of the monotonic clock, a few hundredths of a millisecond late where the system can do that.

Event loops count in whole milliseconds (epoll's timeout), and round up: half a millisecond on average, which a request
that is due would be late. On Linux the kernel's own timer (timerfd_create(2)) is a file that becomes readable.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable

from inferry.core.clock import SystemClock

CLOCK_MONOTONIC = 1  # linux/time.h
TFD_TIMER_ABSTIME = 1  # sys/timerfd.h
NANOSECONDS = 1_000_000_000

_now_s = SystemClock.now_s


class ExactTimer:
    """One callback at a time, on the running loop. Setting it anew takes the place of what was set."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self._file = _timer_file()
        if self._file is not None:
            self._loop.add_reader(self._file, self._on_readable)

    def set(self, at_s: float) -> None:
        """Call at `at_s`; soon, when that has passed."""
        if self._file is not None:
            # All zeros would switch the timer off.
            at_ns = max(1, int(at_s * NANOSECONDS))
            _set_timer_file(self._file, at_ns)
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_later(max(0.0, at_s - _now_s()), self._call)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = None

    def _on_readable(self) -> None:
        if self._file is None:
            return
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # set anew between becoming readable and now
            return
        self._call()


def _timer_file() -> int | None:
    """None: this system has no such thing, and the loop's own timers must do."""
    if sys.platform != "linux" or sys.maxsize < 2**32:  # the layout below is that of 64 bits
        return None
    try:
        made: int = ctypes.CDLL(None, use_errno=True).timerfd_create(
            CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC
        )
    except (OSError, AttributeError):
        return None
    return made if made >= 0 else None


def _set_timer_file(file: int, at_ns: int) -> None:
    seconds, rest = divmod(at_ns, NANOSECONDS)
    # struct itimerspec: interval (none) and first time, each in seconds and nanoseconds.
    spec = (ctypes.c_int64 * 4)(0, 0, seconds, rest)
    if ctypes.CDLL(None, use_errno=True).timerfd_settime(file, TFD_TIMER_ABSTIME, spec, None) != 0:
        raise OSError(ctypes.get_errno(), "timerfd_settime")
