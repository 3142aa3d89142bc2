"""How far a run is: one line that renews itself on a terminal, a plain line every few seconds anywhere else."""

from __future__ import annotations

import shutil
from collections import deque
from typing import TextIO

from inferry.bench.plot_scales import amount_text
from inferry.bench.records import Progress

EVERY_S = 5.0
"""Between plain lines: a log of CI stays readable."""
BAR = 20
LOOKS = 5
"""Over which the rate is taken: from one look to the next, arrivals are mostly chance."""
_CLEAR = "\r\x1b[K"


class Live:
    """`show` it each Progress of one run, in order; `close` before anything else is printed."""

    def __init__(self, out: TextIO, duration_s: float, name: str = "") -> None:
        """`name` goes before each line, for one of several runs."""
        self._out = out
        self._is_terminal = out.isatty()
        self._duration_s = duration_s
        self._name = name
        self._looks: deque[Progress] = deque(maxlen=LOOKS)
        self._said: Progress | None = None
        self._open = False

    def show(self, now: Progress) -> None:
        """A terminal that has gone away is none of the run's business: what can't be written is dropped."""
        line = progress_line(now, self._looks[0] if self._looks else None, self._duration_s)
        self._looks.append(now)
        if self._name:
            line = f"{self._name}: {line}"
        if self._is_terminal:
            columns = shutil.get_terminal_size().columns
            self._write(f"{_CLEAR}{line[: columns - 1]}")
            self._open = True
        elif self._is_news(now):
            self._said = now
            self._write(f"{line}\n")

    def close(self) -> None:
        """The line goes; the results say more."""
        if self._open:
            self._write(_CLEAR)
            self._open = False

    def _is_news(self, now: Progress) -> bool:
        if now.at_s < 0:
            return False
        said = self._said
        return said is None or now.at_s - said.at_s >= EVERY_S or now.reading != said.reading

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except OSError:
            self._is_terminal, self._open = False, False


def progress_line(now: Progress, before: Progress | None, duration_s: float) -> str:
    """`[##########..........] 15 s of 30 s  300 sent (20/s), 288 answered, 12 in flight, first bytes 41 ms`.

    Failures and what was not sent are named only if there are any. The rate is that since `before`.
    """
    if now.at_s < 0:
        return f"begins in {amount_text(-now.at_s, 's')}"
    if now.reading:
        return f"{now.ended:,} answers are in and are judged now"
    done = min(max(now.at_s / duration_s, 0.0), 1.0) if duration_s > 0 else 1.0
    filled = round(BAR * done)
    time = f"{now.at_s:.0f} s of {amount_text(duration_s, 's')}"
    if now.at_s > duration_s:
        time = f"{amount_text(duration_s, 's')} are over, waiting for answers"
    parts = [_sent(now, before, duration_s), f"{now.ended - now.failed:,} answered"]
    if now.failed:
        parts.append(f"{now.failed:,} FAILED")
    if now.unsent:
        parts.append(f"{now.unsent:,} NOT SENT")
    parts.append(f"{now.under_way:,} in flight")
    if now.first_piece_ms is not None:
        parts.append(f"first bytes {amount_text(now.first_piece_ms, 'ms')}")
    return f"[{'#' * filled}{'.' * (BAR - filled)}] {time}  {', '.join(parts)}"


def _sent(now: Progress, before: Progress | None, duration_s: float) -> str:
    start_s, sent = (max(before.at_s, 0.0), before.sent) if before is not None else (0.0, 0)
    if now.at_s - start_s < 0.1 or now.at_s > duration_s:
        return f"{now.sent:,} sent"
    return f"{now.sent:,} sent ({amount_text((now.sent - sent) / (now.at_s - start_s), 'per_s')})"
