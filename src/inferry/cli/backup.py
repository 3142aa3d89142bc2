"""`inferry backup`: deployment file, keys and ledger in one file, whether or not Inferry runs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry import __version__
from inferry.cli.config import DEFAULT_FILE
from inferry.cli.store_choice import AsJson
from inferry.core.clock import SystemClock
from inferry.core.config_file import load_file
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home
from inferry.core.shown_url import shown_url

if TYPE_CHECKING:
    from inferry.ledger.archive import Manifest

# inferry.ledger is imported inside: `inferry --help` needs no database.


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The deployment file. Left out: inferry.yaml if there is one, else only keys and ledger.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A new file, .tar.gz or .tar.zst; or a folder, for a .tar.gz named after the time.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            min=1,
            max=100_000,
            metavar="N",
            help="Then delete all but the newest N that this command made in that folder.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="ARCHIVE",
            help="Make none; check this one, to its last byte.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy deployment file, keys and ledger into one file, also while Inferry runs. See `inferry restore`."""
    from inferry.ledger.archive import read_archive

    if check is not None:
        if output is not None or file is not None or keep is not None:
            raise ConfigError("--check makes no backup: leave out FILE, -o and --keep")
        _say(check, read_archive(check), (), as_json)
        return
    if output is None:
        raise ConfigError("Say where to, as in: inferry backup -o inferry-backup.tar.gz")
    if keep is not None and not output.is_dir():
        raise ConfigError(
            f"--keep needs a folder that is there, and {output} is none: create it, or leave out --keep"
        )
    archive = _make(file, output)
    manifest = read_archive(archive)  # as it lies on the disk now: a backup that nobody has read is a hope
    deleted = [] if keep is None else _let_go(output, keep)
    _say(archive, manifest, deleted, as_json)


def _make(file: Path | None, output: Path) -> Path:
    from inferry.ledger.archive import (
        DEPLOYMENT_FILE,
        Manifest,
        check_archive_name,
        entries_of,
        write_archive,
    )
    from inferry.ledger.archive_names import archive_name
    from inferry.ledger.backup import copy_ledger
    from inferry.ledger.database import default_url

    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    home = inferry_home(os.environ)
    url = None if file is None else load_file(file, os.environ).config.ledger.url
    made_wall_s = SystemClock().wall_s()
    if output.is_dir():
        output = output / archive_name(made_wall_s)
    check_archive_name(output)
    if not output.parent.is_dir():
        raise ConfigError(f"{output.parent} is no folder: create it first")
    try:
        with tempfile.TemporaryDirectory(prefix=".inferry-backup-", dir=output.parent) as staging_path:
            staging = Path(staging_path)
            copied = copy_ledger(url or default_url(home), home / "ledger" / "journal", staging)
            if file is not None:
                shutil.copyfile(file, staging / DEPLOYMENT_FILE)
            manifest = Manifest(
                inferry=__version__,
                made_wall_s=made_wall_s,
                store=copied.kind,
                schema=copied.schema,
                ledger_url=None if url is None else shown_url(url),
                under_way=copied.living,
                files=entries_of(staging),
            )
            write_archive(output, manifest, staging)
    except OSError as error:
        raise ConfigError(f"{error.filename or output.parent}: {error.strerror or error}") from error
    return output


def _let_go(folder: Path, keep: int) -> list[str]:
    from inferry.ledger.archive_names import archives_in

    ours = archives_in(folder)
    for path in ours[:-keep]:
        path.unlink(missing_ok=True)
    return [path.name for path in ours[:-keep]]


def _say(archive: Path, manifest: Manifest, deleted: list[str] | tuple[str, ...], as_json: bool) -> None:
    from inferry.ledger.archive import DEPLOYMENT_FILE

    size = archive.stat().st_size
    if as_json:
        shown = {
            "archive": str(archive),
            "bytes": size,
            "made": manifest.made,
            "inferry": manifest.inferry,
            "store": manifest.store,
            "schema": manifest.schema,
            "deployment_file": DEPLOYMENT_FILE in manifest.files,
            "files": len(manifest.files),
            "deleted": list(deleted),
        }
        typer.echo(json.dumps(shown, indent=2))
        return
    holds = (
        "deployment file, keys and ledger"
        if DEPLOYMENT_FILE in manifest.files
        else "keys and ledger, no file"
    )
    typer.echo(f"{archive}: {holds} of {manifest.made}, {size:,} bytes; every checksum is right.")
    for name in deleted:
        typer.echo(f"{name} is deleted.")
