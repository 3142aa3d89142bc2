"""One run of a batch: builds sender and runner, looks at the service first, and minds Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from random import Random

import httpx
import typer

from inferry.batch.input_file import Reading, Scan, read
from inferry.batch.journal import Journal
from inferry.batch.record import Failure, Record, failed_entry
from inferry.batch.runner import Runner
from inferry.batch.sender import CONNECT_S, Sender, Settings
from inferry.batch.service import listed_models
from inferry.cli.batch_lifeline import watch_lifeline
from inferry.cli.batch_prices import Prices
from inferry.cli.batch_report import BatchProgress, requests_text
from inferry.cli.chat import KEY_VARIABLE
from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError

NAMES_SHOWN_MAX = 20
GIVEN_UP = Failure("batch_cancelled", "The batch was finished before this request was answered.")


async def send_all(
    input_file: Path,
    reading: Reading,
    found: Scan,
    journal: Journal,
    settings: Settings,
    concurrency: int,
    prices: Prices,
    progress: BatchProgress,
) -> str | None:
    """Send what the journal does not have. Returns why the run was halted, if the service took no more."""
    # As many connections as requests; how long an answer may take is the deadline's affair.
    timeout = httpx.Timeout(None, connect=CONNECT_S)
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx.AsyncClient(timeout=timeout, limits=limits) as client:
        listed = await listed_models(client, settings.base_url, settings.headers, KEY_VARIABLE)
        if listed:
            _check_models(found.by_model, listed, is_ours=not reading.any_path)
        sender = Sender(client, settings, journal.header.run, SystemClock(), Random(), prices.cost_nano)
        runner = Runner(read(input_file, reading, found), journal, sender.send, progress, concurrency)
        interrupts = _Interrupts(runner, progress)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupts.on_signal)
        watch_lifeline(asyncio.get_running_loop(), os.environ, runner.end)
        with progress:
            await runner.run()
        return runner.halted


def give_up_the_rest(input_file: Path, reading: Reading, found: Scan, journal: Journal) -> None:
    """Every request without an answer becomes a failed one. Raises ConfigError if that would be all of them."""
    if not journal.tally.over:
        raise ConfigError("--finish: nothing was answered yet, so there is nothing to write.")
    for request in read(input_file, reading, found):
        if not journal.has(request.line):
            entry = failed_entry(journal.header.run, request.line, request.custom_id, GIVEN_UP)
            journal.append(Record(request.line, entry, GIVEN_UP.code))


class _Interrupts:
    """The first Ctrl-C or SIGTERM lets what is under way come to its end, the second cuts it off."""

    def __init__(self, runner: Runner, progress: BatchProgress) -> None:
        self._runner = runner
        self._progress = progress
        self._is_ending = False

    def on_signal(self) -> None:
        if self._is_ending:
            self._runner.cut()
            return
        self._is_ending = True
        self._runner.end()
        under_way = requests_text(self._runner.under_way)
        self._progress.note(f"Finishing the {under_way} under way. Ctrl-C again cuts them off.")


def _check_models(asked: Mapping[str, int], listed: frozenset[str], *, is_ours: bool) -> None:
    unlisted = [f"{name} ({requests_text(count)})" for name, count in asked.items() if name not in listed]
    if not unlisted:
        return
    text = (
        f"Not among the models that are served there: {', '.join(unlisted[:NAMES_SHOWN_MAX])}. "
        f"Served: {', '.join(sorted(listed)[:NAMES_SHOWN_MAX])}."
    )
    if is_ours and len(unlisted) == len(asked):  # others may serve more than they list
        raise ConfigError(f"{text} Choose one with --model, or give a deployment such an alias.")
    typer.echo(f"note: {text}", err=True)
