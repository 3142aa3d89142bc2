"""Makes a backup whenever the latest one in the folder is too old, in a process of its own: the same `inferry backup`
that people run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from inferry.cli.place import Place
from inferry.core.backup_settings import Backup
from inferry.core.clock import Clock
from inferry.ledger.archive_names import newest_wall_s

log = structlog.get_logger()

LOOK_S = 20.0
AGAIN_S = 300.0
"""After one that failed."""
END_S = 5.0
"""To tidy up, for one that is interrupted."""
NICENESS = 10


def scheduled_backups(place: Place, environ: Mapping[str, str], clock: Clock) -> ScheduledBackups | None:
    """None where the file asks for none."""
    settings = place.loaded.config.backup
    return (
        None
        if settings is None
        else ScheduledBackups(settings, place.loaded.path.resolve(), place.home, environ, clock)
    )


class ScheduledBackups:
    """`run` it in a task. What it needs to know of the past lies in the folder."""

    def __init__(
        self, settings: Backup, file: Path, home: Path, environ: Mapping[str, str], clock: Clock
    ) -> None:
        """`environ`: of the command, which reads the file with its references."""
        self._settings = settings
        self._folder = Path(settings.folder)
        self._argv = [
            sys.executable, "-m", "inferry", "backup", str(file),
            "--output", settings.folder, "--keep", str(settings.keep),
        ]  # fmt: skip
        self._environ = {**environ, "INFERRY_HOME": str(home)}
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled. One that fails is logged, tried again soon, and seen in the metrics by its absence."""
        while True:
            pause_s = LOOK_S
            try:
                if await asyncio.to_thread(self._is_due) and (trouble := await self._make()):
                    log.warning("backup_failed", folder=self._settings.folder, because=trouble)
                    pause_s = AGAIN_S
            except OSError as error:
                log.warning("backup_failed", folder=self._settings.folder, because=str(error))
                pause_s = AGAIN_S
            await asyncio.sleep(pause_s)

    def _is_due(self) -> bool:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        newest = newest_wall_s(self._folder)
        return newest is None or self._clock.wall_s() - newest >= self._settings.every_hours * 3600

    async def _make(self) -> str:
        """Why it could not be made; empty: it is there."""
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=self._environ,
            start_new_session=True,  # a Ctrl-C is for us: `_end` tells it
        )
        with suppress(OSError):  # it is over already
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        try:
            said, trouble = await process.communicate()
        except asyncio.CancelledError:
            await _end(process)
            raise
        if process.returncode:
            words = trouble.decode(errors="replace").strip()
            return words[-500:] or f"it ended with code {process.returncode} and said nothing"
        log.info("backup_made", said=said.decode(errors="replace").strip()[:500])
        return ""


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
