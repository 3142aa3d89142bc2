"""`inferry batch`: a file of requests in, a file of answers out, and nothing lost on the way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.chat import KEY_VARIABLE
from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.core.errors import ConfigError, EngineError
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    import httpx

    from inferry.batch.input_file import Reading, Scan
    from inferry.batch.journal import Journal
    from inferry.batch.runner import Runner
    from inferry.batch.sender import Settings
    from inferry.cli.batch_prices import Prices
    from inferry.cli.batch_report import BatchProgress

# inferry.batch, httpx and rich are imported inside the functions: `inferry --help` needs none of them.

EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
CONCURRENCY = 16
RETRIES = 5
DEADLINE_S = 600.0


def batch(
    input_file: Annotated[Path, typer.Argument(metavar="IN", help="Requests: JSON lines, as OpenAI's Batch API has them.")],
    output: Annotated[Path | None, typer.Argument(metavar="OUT", help="Answers, in the same order.", show_default=False)] = None,
    url: Annotated[str | None, typer.Option("--url", help="Any OpenAI base URL. Without: the Inferry that runs here.")] = None,
    port: Port = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Ask this one, whatever the requests say.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=4096, help="Requests under way at once.")] = CONCURRENCY,
    retries: Annotated[int, typer.Option("--retries", min=0, max=100, help="More tries for what may pass.")] = RETRIES,
    deadline_s: Annotated[float, typer.Option("--deadline", min=0.1, max=86400.0, help="Seconds for one request, all tries together.")] = DEADLINE_S,
    errors: Annotated[Path | None, typer.Option("--errors", help="Failed requests go there instead of into OUT.")] = None,
    prices: Annotated[Path | None, typer.Option("--prices", help="The deployment file to take prices from.")] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Send nothing more: write OUT from what was answered so far.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check IN, and send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary for programs.")] = False,
) -> None:  # fmt: skip
    """Run a file of requests, with the API key in INFERRY_KEY if one is asked for. The same command goes on with what
    was broken off. Exit code 3: done, and some requests have failed."""
    from inferry.batch.input_file import Reading, scan

    reading = Reading(any_path=url is not None, model=model)
    if dry_run:
        _tell_scan(input_file, scan(input_file, reading), as_json)
        return
    if output is None:
        raise ConfigError(
            "OUT is missing: name a file for the answers, or only check the requests with --dry-run."
        )
    _check_files(input_file, output, errors)
    found = scan(input_file, reading)
    journal = _open_journal(output, found, model)
    try:
        _Batch(input_file, output, errors, reading, found, journal, as_json).run(
            url=url, port=port, concurrency=concurrency, retries=retries, deadline_s=deadline_s, prices=prices,
            finish=finish,
        )  # fmt: skip
    finally:
        journal.close()


def _check_files(input_file: Path, output: Path, errors: Path | None) -> None:
    """Raises ConfigError where one file would overwrite another, or there is no place for it."""
    taken = {"IN": input_file.resolve()}
    for name, path in (("OUT", output), ("--errors", errors)):
        if path is None:
            continue
        for other, there in taken.items():
            if path.resolve() == there:
                raise ConfigError(f"{name} and {other} are the same file, {path}. Name another one.")
        taken[name] = path.resolve()
        if path.is_dir() or not path.parent.is_dir():
            why = "is a folder" if path.is_dir() else f"can't be made: there is no folder {path.parent}"
            raise ConfigError(f"{name}: {path} {why}. Name a file in a folder that is there.")


def _open_journal(output: Path, found: Scan, model: str | None) -> Journal:
    from inferry.batch.journal import Journal, journal_path

    path = journal_path(output)
    if output.exists() and not path.exists():
        raise ConfigError(
            f"{output} is there already, and whole. Delete it, or name another file for the answers."
        )
    return Journal(path, input_sha256=found.sha256, model=model, lines=found.lines)


def _tell_scan(path: Path, found: Scan, as_json: bool) -> None:
    if as_json:
        by = {"urls": dict(found.by_path), "models": dict(found.by_model)}
        typer.echo(json.dumps({"input": str(path), "requests": found.requests, **by}, indent=2))
        return
    typer.echo(f"{path} is well-formed: {found.requests:,} requests. Nothing was sent.")
    for title, counts in (("url", found.by_path), ("model", found.by_model)):
        for name, count in counts.most_common(20):
            typer.echo(f"  {title:<6} {name}  {count:,}")


class _Batch:
    """One call of the verb, from its journal to its exit code."""

    def __init__(
        self,
        input_file: Path,
        output: Path,
        errors: Path | None,
        reading: Reading,
        found: Scan,
        journal: Journal,
        as_json: bool,
    ) -> None:
        self._input = input_file
        self._output = output
        self._errors = errors
        self._reading = reading
        self._found = found
        self._journal = journal
        self._as_json = as_json
        self._before = replace(journal.tally)
        self._interrupts = 0

    def run(
        self,
        *,
        url: str | None,
        port: int | None,
        concurrency: int,
        retries: int,
        deadline_s: float,
        prices: Path | None,
        finish: bool,
    ) -> None:
        """Send what is left, write the output if that was all; raises typer.Exit with the exit code if it is not 0."""
        import uvloop

        from inferry.batch.sender import Settings
        from inferry.cli.batch_prices import prices_of
        from inferry.cli.batch_report import BatchProgress
        from inferry.core.clock import SystemClock

        clock = SystemClock()
        began_s = clock.now_s()
        halted: str | None = None
        known_prices = None
        progress = BatchProgress(self._found.requests, self._journal.tally, clock)
        if finish:
            self._give_up_the_rest()
        elif self._left():
            base_url, file = _service(url, port)
            known_prices = prices_of(prices or file, os.environ)
            key = os.environ.get(KEY_VARIABLE, "").strip()
            headers = {"authorization": f"Bearer {key}"} if key else {}
            settings = Settings(base_url, headers, retries, deadline_s)
            halted = uvloop.run(self._send_all(settings, concurrency, known_prices, progress))
        else:
            known_prices = prices_of(prices, os.environ)
        duration_s = clock.now_s() - began_s
        self._end(halted, known_prices, duration_s)

    async def _send_all(
        self, settings: Settings, concurrency: int, prices: Prices, progress: BatchProgress
    ) -> str | None:
        """Why the run was halted, if it was."""
        from random import Random

        import httpx

        from inferry.batch.input_file import read
        from inferry.batch.runner import Runner
        from inferry.batch.sender import CONNECT_S, Sender
        from inferry.core.clock import SystemClock

        # As many connections as requests; how long an answer may take is the deadline's affair.
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(timeout=timeout, limits=limits) as client:
            await self._look_at_service(client, settings)
            sender = Sender(client, settings, self._journal.run, SystemClock(), Random(), prices.cost_nano)
            requests = read(self._input, self._reading)
            runner = Runner(requests, self._journal, sender.send, progress, concurrency)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._on_interrupt, runner, progress)
            with progress:
                await runner.run()
            return runner.halted

    async def _look_at_service(self, client: httpx.AsyncClient, settings: Settings) -> None:
        from inferry.batch.service import listed_models

        listed = await listed_models(client, settings.base_url, settings.headers, KEY_VARIABLE)
        unlisted = {} if not listed else {m: n for m, n in self._found.by_model.items() if m not in listed}
        if unlisted:
            some = ", ".join(f"{name} ({count:,} requests)" for name, count in list(unlisted.items())[:5])
            _note(
                f"not among the models listed there: {some}. Listed: {', '.join(sorted(listed or ())[:20])}."
            )

    def _on_interrupt(self, runner: Runner, progress: BatchProgress) -> None:
        self._interrupts += 1
        if self._interrupts == 1:
            runner.end()
            progress.note(f"Finishing the {runner.under_way} requests under way. Ctrl-C again cuts them off.")
        else:
            runner.cut()

    def _left(self) -> int:
        return self._found.requests - self._journal.tally.over

    def _give_up_the_rest(self) -> None:
        from inferry.batch.input_file import read
        from inferry.batch.record import Failure, Record, failed_entry

        given_up = Failure("batch_cancelled", "The batch was finished before this request was answered.")
        for request in read(self._input, self._reading):
            if not self._journal.has(request.line):
                entry = failed_entry(self._journal.run, request.line, request.custom_id, given_up)
                self._journal.append(Record(request.line, entry, given_up.code))

    def _end(self, halted: str | None, prices: Prices | None, duration_s: float) -> None:
        from inferry.batch.output import write_output
        from inferry.cli.batch_report import Summary

        left = self._left()
        summary = Summary(
            self._found.requests, left, self._before, self._journal.tally, prices, duration_s,
            self._output, self._errors, self._journal.path,
        )  # fmt: skip
        if not left:
            write_output(self._journal, self._output, self._errors)
        typer.echo(summary.as_json() if self._as_json else summary.as_text())
        if not left:
            if self._journal.tally.failed:
                raise typer.Exit(EXIT_SOME_FAILED)
            return
        if halted is not None:
            raise EngineError(
                f"The service takes no requests now. {halted}\nThe same command goes on when it does."
            )
        raise typer.Exit(EXIT_INTERRUPTED)


def _service(url: str | None, port: int | None) -> tuple[str, Path | None]:
    """The base URL without /v1, and the deployment file of what runs there, if it is ours."""
    if url is None:
        from inferry.admin.run_record import find

        record = find(inferry_home(os.environ), port, DEFAULT_FILE)
        return record.url, Path(record.file)
    from inferry.core.shown_url import shown_url

    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"--url {shown_url(url)}: begin it with http:// or https://, for instance http://HOST/v1"
        )
    return url.rstrip("/").removesuffix("/v1"), None


def _note(text: str) -> None:
    typer.echo(f"note: {text}", err=True)
