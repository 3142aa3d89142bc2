"""Keeps up, or awaits, this process' turn to decide for its fleet, where the file names one (`host: fleet:`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import structlog

from inferry.core.clock import Clock
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import InferryError
from inferry.core.kubernetes_settings import KubernetesSettings
from inferry.core.leader_row import LeaderRow, LeaderWrite
from inferry.ledger.database import default_url, open_database
from inferry.ledger.leader_lease import LeaderLease
from inferry.policy.leader import LOOK_S, Candidacy
from inferry.runtime.kubernetes.access import find_access
from inferry.runtime.kubernetes.lease import KubernetesLease

log = structlog.get_logger()

NOBODY = "nobody: the store does not answer"


class Lease(Protocol):
    """Where who leads is written; each call blocks. Raises InferryError while it can't be asked."""

    def read(self) -> LeaderRow | None: ...

    def write(self, write: LeaderWrite) -> bool:
        """False: somebody else was first."""


class Leadership:
    """One task, `run`, and `resign` at the end; `leader` is instant."""

    def __init__(self, lease: Lease, close: Callable[[], None], fleet: str, clock: Clock, me: str) -> None:
        """`close`: lets go of what the lease is kept in."""
        self._lease = lease
        self._close = close
        self._fleet = fleet
        self._clock = clock
        self._candidacy = Candidacy(me)
        self._led = False
        self._away = False

    def leader(self) -> str:
        """Who decides instead of this process; empty: this one does."""
        if self._candidacy.leads(self._clock.now_s()):
            return ""
        if self._away:
            return NOBODY
        return self._candidacy.holder or "nobody yet"

    async def run(self) -> None:
        """Until cancelled. While the store is away, whoever led stops soon, and nobody decides."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except InferryError as error:
                if not self._away:
                    log.warning("leadership_store_away", fleet=self._fleet, because=error.message)
                self._away = True
            except Exception:  # without leadership nobody scales, but serving must not end for it
                log.exception("leadership_broke", fleet=self._fleet)
                self._away = True
            self._tell()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Read the row, and write what is to be written; blocks. Raises LedgerError."""
        row = self._lease.read()
        self._away = False
        write = self._candidacy.next_write(row, self._clock.now_s())
        if write is None:
            return
        asked_s = self._clock.now_s()
        if self._lease.write(write):
            self._candidacy.on_written(write, asked_s)
        else:
            self._candidacy.on_refused()

    async def resign(self) -> None:
        """It decides no more, and another one may at once."""
        write = self._candidacy.resignation()
        if write is not None:
            with contextlib.suppress(InferryError):  # then others wait until they believe it
                await asyncio.to_thread(self._lease.write, write)
        await asyncio.to_thread(self._close)

    def _tell(self) -> None:
        leads = self._candidacy.leads(self._clock.now_s())
        if leads != self._led:
            log.info("leadership", fleet=self._fleet, leads=leads, term=self._candidacy.term)
        self._led = leads


def leadership_of(
    config: DeploymentFile, home: Path, port: int, clock: Clock, environ: Mapping[str, str]
) -> Leadership | None:
    """None where the file names no fleet and no lease: then this process decides for its own."""
    if isinstance(config.runtime, KubernetesSettings) and config.runtime.lease is not None:
        lease = KubernetesLease(find_access(config.runtime, environ), config.runtime.lease, clock)
        return Leadership(lease, lease.close, config.runtime.lease, clock, own_name(port))
    fleet = config.host.fleet
    if fleet is None:
        return None
    database = open_database(config.ledger.url or default_url(home))
    return Leadership(LeaderLease(database, fleet), database.close, fleet, clock, own_name(port))


def own_name(port: int) -> str:
    """Of this process among the fleet's, for people to find it; nobody's before or after it."""
    return f"{socket.gethostname()[:100]}:{port} (process {os.getpid()}, {secrets.token_hex(3)})"
