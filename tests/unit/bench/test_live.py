"""The progress line: on a terminal and in a log."""

from __future__ import annotations

import io

import pytest

from inferry.bench.live import Live, progress_line
from inferry.bench.records import Progress


class Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        return True


class Gone(Terminal):
    """A terminal whose window was closed."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def at(seconds: float, **more: object) -> Progress:
    sent = round(20 * max(seconds, 0))
    return Progress(at_s=seconds, **({"sent": sent, "ended": sent - 5, "under_way": 5} | more))  # type: ignore[arg-type]


def test_the_line_says_how_far_and_how_it_goes() -> None:
    """Time, requests, the rate since the last look and the first bytes are on one line."""
    line = progress_line(at(15, first_piece_ms=41.26), at(14), 30)
    assert line == (
        "[##########..........] 15 s of 30 s  300 sent (20/s), 295 answered, 5 in flight, first bytes 41.3 ms"
    )


def test_trouble_is_named_only_if_there_is_any() -> None:
    """Failures and unsent requests stand out, and are no part of a line without them."""
    assert "FAILED" not in progress_line(at(3), None, 30)
    line = progress_line(at(3, failed=2, unsent=1), None, 30)
    assert "53 answered, 2 FAILED, 1 NOT SENT" in line


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (at(-1.5), "begins in 1.5 s"),
        (at(31), "30 s are over, waiting for answers  620 sent, "),
        (at(32, reading=True), "635 answers are in and are judged now"),
    ],
)
def test_before_and_after_are_said(progress: Progress, words: str) -> None:
    """Before the start, while the last answers come, and while they are read, the line says so."""
    assert words in progress_line(progress, at(30.5), 30)


def test_a_terminal_has_one_line() -> None:
    """Each look replaces the one before, and nothing is left at the end."""
    out = Terminal()
    live = Live(out, 30)
    for second in range(3):
        live.show(at(second))
    live.close()
    assert "\n" not in out.getvalue()
    assert out.getvalue().count("\r\x1b[K") == 4
    assert out.getvalue().endswith("\r\x1b[K")


def test_a_log_has_few_lines() -> None:
    """Without a terminal there is a line every five seconds, one when the reading begins, and no control code."""
    out = io.StringIO()
    live = Live(out, 12, "trial 3")
    for second in range(-1, 13):
        live.show(at(second))
    live.show(at(13, reading=True))
    live.close()
    lines = out.getvalue().splitlines()
    assert [line.split("] ")[-1].split(" of")[0] for line in lines[:3]] == ["0 s", "5 s", "10 s"]
    assert len(lines) == 4
    assert all(line.startswith("trial 3: ") for line in lines)
    assert "\x1b" not in out.getvalue()


def test_a_run_does_not_end_with_its_terminal() -> None:
    """A terminal that takes nothing more is left alone."""
    out = Gone()
    live = Live(out, 30)
    live.show(at(1))
    live.close()
    assert out.getvalue() == ""
