"""`inferry batch`: a file of requests in, a file of answers out, and nothing lost on the way."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.batch_lifeline import is_sending_process, run_sending_process
from inferry.cli.chat import KEY_VARIABLE
from inferry.cli.config import DEFAULT_FILE
from inferry.cli.down import Port
from inferry.cli.key_variable import bearer_headers
from inferry.core.clock import SystemClock, pause_s
from inferry.core.errors import ConfigError, EngineError
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.batch.input_file import Reading, Scan
    from inferry.batch.journal import Journal
    from inferry.cli.batch_prices import Prices

# inferry.batch, httpx and rich are imported inside the functions: `inferry --help` needs none of them.

EXIT_SOME_FAILED = 3
EXIT_INTERRUPTED = 130
CONCURRENCY = 16
RETRIES = 5
DEADLINE_S = 600.0
LOOK_S = 0.2
LINES_SHOWN_MAX = 20
SPARE_S = 10.0
"""On top of a deadline, for a killed run to end in."""


def batch(
    input_file: Annotated[Path, typer.Argument(metavar="IN", help="Requests: JSON lines, as OpenAI's Batch API has them.")],
    output: Annotated[Path | None, typer.Argument(metavar="OUT", help="Answers, in the same order.", show_default=False)] = None,
    url: Annotated[str | None, typer.Option("--url", help="Any OpenAI base URL. Without: the Inferry that runs here.")] = None,
    port: Port = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Ask this one, whatever the requests say.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=1000, help="Requests under way at once.")] = CONCURRENCY,
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
    if not dry_run and not is_sending_process(os.environ):
        raise typer.Exit(run_sending_process(sys.argv[1:]))
    import uvloop

    from inferry.batch.input_file import Reading, scan
    from inferry.batch.journal import journal_path
    from inferry.batch.output import write_output
    from inferry.batch.sender import Settings
    from inferry.cli.batch_prices import asked_prices, prices_of
    from inferry.cli.batch_report import BatchProgress, Summary
    from inferry.cli.batch_run import give_up_the_rest, send_all

    clock = SystemClock()
    reading = Reading(any_path=url is not None, model=model)
    if dry_run:
        _tell_scan(input_file, scan(input_file, reading), as_json)
        return
    if output is None:
        raise ConfigError(
            "OUT is missing: name a file for the answers, or only check the requests with --dry-run."
        )
    _check_files(input_file, output, errors, is_begun=journal_path(output).exists())
    found = _scan_what_was_begun(input_file, reading, output)
    base_url, file = ("", None) if finish else _service(url, port)
    known_prices = prices_of(file, os.environ) if prices is None else asked_prices(prices, os.environ)
    journal = _open_journal(output, found, model, known_prices, wait_max_s=deadline_s + SPARE_S)
    try:
        if finish:
            give_up_the_rest(input_file, reading, found, journal)
        before, began_s, halted = deepcopy(journal.tally), clock.now_s(), None
        if journal.tally.over < found.requests:
            settings = Settings(base_url, bearer_headers(os.environ, KEY_VARIABLE), retries, deadline_s)
            progress = BatchProgress(found.requests, journal.tally, clock)
            halted = uvloop.run(
                send_all(input_file, reading, found, journal, settings, concurrency, known_prices, progress)
            )
        left = found.requests - journal.tally.over
        summary = Summary(
            found.requests, left, before, journal.tally, journal.header.currency, known_prices.source,
            clock.now_s() - began_s, output, errors, journal.path,
        )  # fmt: skip
        if not left:
            write_output(journal, output, errors)
        typer.echo(summary.as_json() if as_json else summary.as_text())
    finally:
        journal.close()
    if halted is not None and left:
        raise EngineError(
            f"The service takes no requests now. {halted}\n"
            "The same command goes on when it does; with --finish it writes OUT without the rest."
        )
    if left:
        raise typer.Exit(EXIT_INTERRUPTED)
    if journal.tally.failed:
        raise typer.Exit(EXIT_SOME_FAILED)


def _check_files(input_file: Path, output: Path, errors: Path | None, *, is_begun: bool) -> None:
    """Raises ConfigError where a file would be overwritten, or there is no place for it."""
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
        if path.exists() and not is_begun:
            raise ConfigError(
                f"{path} is there already, and whole. Delete it, or name another file for {name}."
            )


def _scan_what_was_begun(input_file: Path, reading: Reading, output: Path) -> Scan:
    """IN, checked; without what was appended since the journal was begun, if there is one."""
    from inferry.batch.input_file import begins_with, scan
    from inferry.batch.journal import begun_header, journal_path

    began = begun_header(journal_path(output))
    if began is None or not begins_with(input_file, began.input_end, began.input_sha256):
        return scan(input_file, reading)
    found = scan(input_file, reading, began.input_end)
    if input_file.stat().st_size > found.end:
        typer.echo(
            f"note: {input_file} has grown since this run began; what stands behind line {found.lines:,} is left out.",
            err=True,
        )
    return found


def _open_journal(output: Path, found: Scan, model: str | None, prices: Prices, wait_max_s: float) -> Journal:
    """The journal, once a run that was killed before has put its last answers into it."""
    from inferry.batch.journal import Header, Journal, JournalInUse, journal_path, new_run_id

    currency = prices.currency if prices.by_model else None
    header = Header(new_run_id(), found.sha256, model, currency, found.end)
    for looks in itertools.count():
        try:
            journal = Journal(journal_path(output), header, found.lines)
        except JournalInUse:
            if looks * LOOK_S > wait_max_s:
                raise
            if not looks:
                typer.echo(f"Waiting for another run into {output}, which has requests under way.", err=True)
            pause_s(LOOK_S)
            continue
        if journal.tally.over == 0 and output.exists():  # the other run came to its end
            journal.close()
            raise ConfigError(f"{output} is there already, and whole: another run has just written it.")
        if journal.damaged:
            typer.echo(_damaged_text(journal.path, journal.damaged), err=True)
        return journal
    raise AssertionError("counting has no end")


def _damaged_text(path: Path, damaged: Sequence[int]) -> str:
    lines = ", ".join(f"{each:,}" for each in damaged[:LINES_SHOWN_MAX])
    more = f" and {len(damaged) - LINES_SHOWN_MAX:,} more" if len(damaged) > LINES_SHOWN_MAX else ""
    return (
        f"warning: {path}: damaged in line {lines}{more}. An answer that stood there is lost, and its request is "
        "still to be sent; all others are kept."
    )


def _tell_scan(path: Path, found: Scan, as_json: bool) -> None:
    from inferry.cli.batch_report import requests_text

    if as_json:
        by = {"urls": dict(found.by_path), "models": dict(found.by_model)}
        typer.echo(json.dumps({"input": str(path), "requests": found.requests, **by}, indent=2))
        return
    typer.echo(f"{path} is well-formed: {requests_text(found.requests)}. Nothing was sent.")
    for title, counts in (("url", found.by_path), ("model", found.by_model)):
        for name, count in counts.most_common(20):
            typer.echo(f"  {title:<6} {name}  {count:,}")


def _service(url: str | None, port: int | None) -> tuple[str, Path | None]:
    """The base URL without /v1, and the deployment file of what runs there, if it is ours."""
    if url is not None and port is not None:
        raise ConfigError("Say one of --url and --port: --port is for the Inferry that runs here.")
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
