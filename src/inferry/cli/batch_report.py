"""What `inferry batch` shows: how far it is, and at the end what it came to."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from inferry.batch.record import Record, Tally, failure_text
from inferry.cli.usage import money_text
from inferry.core.clock import Clock

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 10.0
"""Between two lines where stderr is no terminal: a day's batch is 8640 lines of a log."""


def requests_text(count: int) -> str:
    """`1 request`, `4,000 requests`."""
    return f"{count:,} request{'' if count == 1 else 's'}"


class BatchProgress:
    """A bar on stderr, or plain lines where stderr is no terminal."""

    def __init__(self, total: int, tally: Tally, clock: Clock) -> None:
        """`tally` is read, and grows meanwhile."""
        self._total = total
        self._tally = tally
        self._clock = clock
        self._before = tally.over
        self._began_s = self._said_s = clock.now_s()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._began_s = self._said_s = self._clock.now_s()
        if self._before:
            self.note(f"Going on: {self._before:,} of {self._total:,} requests are over already.")
        if sys.stderr.isatty():
            self._begin_bar()
        else:
            typer.echo(f"{requests_text(self._total - self._before)} to send", err=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, record: Record) -> None:
        """One more is over."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, failed=self._tally.failed)
            return
        now_s = self._clock.now_s()
        if now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            rate = (self._tally.over - self._before) / (now_s - self._began_s)
            typer.echo(
                f"{self._tally.over:,} of {self._total:,} ({100 * self._tally.over // self._total} %), "
                f"{self._tally.failed:,} failed, {rate:.1f}/s",
                err=True,
            )

    def note(self, text: str) -> None:
        """A line for people, above the bar if there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            typer.echo(text, err=True)

    def _begin_bar(self) -> None:
        from rich import progress as rich
        from rich.console import Console

        self._bar = rich.Progress(
            rich.BarColumn(bar_width=24),
            rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[failed]} failed"),
            rich.TimeElapsedColumn(),
            rich.TextColumn("left"),
            rich.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bar.start()
        self._task = self._bar.add_task(
            "", total=self._total, completed=self._before, failed=self._tally.failed
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run came to, and all runs before it into the same output."""

    requests: int
    left: int
    before: Tally
    """As this run began."""
    now: Tally
    currency: str | None
    prices_from: str
    """Where prices are from, or why there are none; for people."""
    duration_s: float
    output: Path
    errors: Path | None
    journal: Path

    def as_text(self) -> str:
        now = self.now
        failures = ", ".join(f"{why}: {count:,}" for why, count in now.failures.most_common())
        lines = [
            f"{requests_text(self.requests)}: {now.completed:,} answered, {now.failed:,} failed"
            + (f" ({failures})" if failures else "")
            + (f", {self.left:,} left" if self.left else ""),
            *([f"  failed    first: {failure_text(now.first_failed)}"] if now.first_failed else []),
            f"  tokens    prompt {now.prompt_tokens:,} (cached {now.cached_tokens:,}), "
            f"completion {now.completion_tokens:,}",
            f"  cost      {self._cost_text()}",
        ]
        sent = now.over - self.before.over
        if sent:
            lines.append(
                f"  this run  {requests_text(sent)} in {self.duration_s:.1f} s: {self._per_s(sent):.1f} requests/s, "
                f"{self._per_s(now.completion_tokens - self.before.completion_tokens):.1f} completion tokens/s"
            )
        if self.left:
            lines.append(f"  kept in   {self.journal}: the same command goes on")
        else:
            lines.append(f"  output    {self.output}")
            if self.errors is not None:
                lines.append(f"  errors    {self.errors}")
        return "\n".join(lines)

    def as_json(self) -> str:
        now = self.now
        sent = now.over - self.before.over
        told: dict[str, Any] = {
            "requests": self.requests,
            "completed": now.completed,
            "failed": now.failed,
            "failures": dict(now.failures),
            "first_failure": failure_text(now.first_failed) if now.first_failed else None,
            "left": self.left,
            "sent_in_this_run": sent,
            "prompt_tokens": now.prompt_tokens,
            "cached_tokens": now.cached_tokens,
            "completion_tokens": now.completion_tokens,
            # Money as text: a number would become a float in most programs that read it.
            "cost": money_text(now.cost_nano).replace(",", "") if self._has_cost() else None,
            "currency": self.currency if self._has_cost() else None,
            "without_price": now.unpriced,
            "duration_s": round(self.duration_s, 3),
            "requests_per_s": round(self._per_s(sent), 3),
            "output": None if self.left else str(self.output),
            "errors": None if self.left or self.errors is None else str(self.errors),
            "journal": str(self.journal) if self.left else None,
        }
        return json.dumps(told, indent=2)

    def _has_cost(self) -> bool:
        return self.now.completed > self.now.unpriced

    def _cost_text(self) -> str:
        if not self.now.completed:
            return "nothing was answered"
        if not self._has_cost():
            return f"not known ({self.prices_from})"
        without = f", without {self.now.unpriced:,} answers that have no price" if self.now.unpriced else ""
        return f"{money_text(self.now.cost_nano, 4)} {self.currency or ''}".rstrip() + without

    def _per_s(self, count: int) -> float:
        return count / self.duration_s if self.duration_s > 0 else 0.0
