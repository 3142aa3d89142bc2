"""Backups that a running Inferry makes by itself, by the same command that people run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inferry.cli import scheduled_backups
from inferry.cli.scheduled_backups import ScheduledBackups
from inferry.cli.standing_figures import StandingFigures
from inferry.core.backup_settings import Backup
from inferry.core.clock import SystemClock
from inferry.core.config_file import load_file
from inferry.ledger.archive import read_archive
from inferry.ledger.archive_names import archive_name, archives_in, newest_wall_s
from inferry.ledger.database import default_url, open_database
from inferry.ledger.usage import Spent

FILE = """\
backup: {folder: kept/here, every_hours: 1, keep: 2}
deployments:
  chat: {engine: simulated}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a store."""
    made = tmp_path / "home"
    (made / "ledger").mkdir(parents=True)
    database = open_database(default_url(made))
    database.migrate()
    database.close()
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "inferry.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def file_without(tmp_path: Path) -> Path:
    """Asks for no backups."""
    path = tmp_path / "without.yaml"
    path.write_text("deployments: {chat: {engine: simulated}}")
    return path


def settings_of(file: Path) -> Backup:
    settings = load_file(file, {}).config.backup
    assert settings is not None
    return settings


async def runs_until(backups: ScheduledBackups, fact: Callable[[], bool]) -> None:
    running = asyncio.create_task(backups.run())
    try:
        async with asyncio.timeout(60):
            while not fact():
                assert not running.done()
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_one_is_made_when_the_latest_is_too_old(
    home: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is whole, the oldest goes, other files stay; and then none is made for as long as this one is young."""
    folder = tmp_path / "kept" / "here"
    folder.mkdir(parents=True)
    now_s = SystemClock().wall_s()
    old = [folder / archive_name(now_s - hours * 3600) for hours in (3, 2)]
    mine = folder / "inferry-before-the-move.tar.gz"
    for path in (*old, mine):
        path.write_text("not looked into")
    monkeypatch.setattr(scheduled_backups, "LOOK_S", 0.05)
    backups = ScheduledBackups(settings_of(file), file, home, os.environ, SystemClock())
    with capture_logs() as logs:
        await runs_until(backups, lambda: any(each["event"] == "backup_made" for each in logs))
    kept = archives_in(folder)
    assert kept[0] == old[1]
    assert len(kept) == 2
    assert mine.exists()
    assert "inferry.yaml" in read_archive(kept[1]).files
    made_wall_s = newest_wall_s(folder)
    assert made_wall_s is not None
    assert made_wall_s > now_s - 2
    again = ScheduledBackups(settings_of(file), file, home, os.environ, SystemClock())
    quiet = asyncio.create_task(again.run())
    await asyncio.sleep(0.5)
    quiet.cancel()
    assert archives_in(folder) == kept


async def test_one_that_fails_is_told_with_its_reason(
    home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that can't be read: the command's own words are in the log, and the next try comes by itself."""
    monkeypatch.setattr(scheduled_backups, "AGAIN_S", 0.05)
    (home / "ledger" / "ledger.db").write_text("this is no database" * 1000)
    for path in (home / "ledger").iterdir():
        path.write_text("this is no database" * 1000)
    backups = ScheduledBackups(settings_of(file), file, home, os.environ, SystemClock())
    with capture_logs() as logs:
        await runs_until(
            backups, lambda: len([each for each in logs if each["event"] == "backup_failed"]) >= 2
        )
    assert "is not" in logs[0]["because"]
    assert "Traceback" not in logs[0]["because"]


async def test_prometheus_is_told_when_the_latest_was_made(
    file: Path, file_without: Path, tmp_path: Path
) -> None:
    """0 where there is none; nothing at all where the file asks for none."""

    async def spent(*_: object) -> dict[tuple[str, str], Spent]:
        return {}

    async def told(config_file: Path) -> dict[str, float]:
        config = load_file(config_file, {}).config
        figures = StandingFigures(lambda: config, spent, lambda: 0.0, list, SystemClock())
        return {
            sample.name: sample.value
            for family in await figures.families()
            for sample in family.samples
            if "backup" in sample.name
        }

    latest, interval = "inferry_backup_last_success_timestamp_seconds", "inferry_backup_interval_seconds"
    assert await told(file) == {latest: 0.0, interval: 3600.0}
    folder = tmp_path / "kept" / "here"
    folder.mkdir(parents=True)
    (folder / archive_name(1_700_000_000)).touch()
    (folder / archive_name(1_600_000_000)).touch()
    (folder / "inferry-20269999T000000Z.tar.gz").touch()
    assert await told(file) == {latest: 1_700_000_000.0, interval: 3600.0}
    assert await told(file_without) == {}
