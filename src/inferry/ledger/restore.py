"""A backup brought back into an INFERRY_HOME: all of it or nothing, and never over what is there.

Everything is unpacked, checked and migrated in a folder beside its place. The last step is one rename, of the folder
`ledger`: whoever looks earlier finds no ledger, whoever looks later finds the whole one.
"""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from pathlib import Path

from inferry.core.errors import ConfigError
from inferry.ledger.archive import DEPLOYMENT_FILE, DUMP, JOURNALS, STORE, Manifest, read_archive
from inferry.ledger.database import default_url, open_database

HARMLESS = ("models", "engines", "lost+found")
"""What may be in a home already: it says nothing about keys or usage, and takes long to fetch."""
_UNFINISHED = ".restoring-"


def restore(archive: Path, home: Path) -> Manifest:
    """Unpack, check and migrate; then put file, keys and ledger into `home`. What was restored.

    Raises ConfigError if the archive is damaged or newer than this program, or `home` holds more than HARMLESS.
    """
    try:
        _check_empty(home)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        staging = home / f"{_UNFINISHED}{secrets.token_hex(4)}"
        staging.mkdir(mode=0o700)
        try:
            manifest = read_archive(archive, staging)
            (staging / JOURNALS).mkdir(mode=0o700, parents=True, exist_ok=True)
            if STORE in manifest.files:
                _prepare(archive, staging)
            _put_in_place(staging, home)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"{error.filename or home}: {error.strerror or error}") from error
    return manifest


def dump_in(home: Path) -> Path:
    """Where a restored PostgreSQL dump lies."""
    return home / DUMP


def _check_empty(home: Path) -> None:
    if not home.exists():
        return
    there = sorted(path.name for path in home.iterdir() if path.name not in HARMLESS)
    if unfinished := [name for name in there if name.startswith(_UNFINISHED)]:
        raise ConfigError(
            f"{home / unfinished[0]} is left of a restore that was interrupted, or runs now. If none runs, delete it."
        )
    if there:
        raise ConfigError(
            f"{home} is in use: it holds {', '.join(there)}. Nothing is ever restored over what is there: name a new "
            "folder with --to, or move these away."
        )


def _prepare(archive: Path, staging: Path) -> None:
    """The store is sound, and of this version; a checksum can't tell that of a file that was damaged before."""
    try:
        connection = sqlite3.connect(staging / STORE)
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise ConfigError(
            f"{archive}: its store is no sound database: {error}. Use another backup."
        ) from error
    if found != ("ok",):
        raise ConfigError(
            f"{archive}: its store is no sound database: {' '.join(map(str, found))}. Use another backup."
        )
    database = open_database(default_url(staging))
    try:
        database.migrate()
    finally:
        database.close()


def _put_in_place(staging: Path, home: Path) -> None:
    file = staging / DEPLOYMENT_FILE
    restored = home / DEPLOYMENT_FILE
    if file.exists():
        file.rename(restored)
    try:
        (staging / "ledger").rename(home / "ledger")
    except OSError:
        restored.unlink(missing_ok=True)
        raise
