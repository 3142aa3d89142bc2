"""What the control process keeps beside the traffic: the store, the keys as they are now, and journals loaded into it.

Nothing here is on a request's way: while the store is away, gateways go on with the keys that they have, and
journals wait on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import structlog

from inferry.cli.period_sums import PeriodSums
from inferry.cli.scheduled_backups import ScheduledBackups
from inferry.core.api_key import ApiKey
from inferry.core.clock import Clock
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError, InferryError
from inferry.core.leases import Bucket, Kind, Measure, owner_of
from inferry.core.replica import ReplicaView
from inferry.ledger.database import default_url, open_database
from inferry.ledger.engine_counters import note_lives
from inferry.ledger.key_watch import watch_keys
from inferry.ledger.keyring import KeyRing
from inferry.ledger.keys import KeyStore
from inferry.ledger.loader import Loader
from inferry.ledger.reconcile import Counters, EngineLife
from inferry.ledger.retention import horizon_wall_s, prune
from inferry.ledger.usage import Spent, UsageAnswer, UsageQuestion, spent_in, usage

log = structlog.get_logger()
T = TypeVar("T")

FIRST_KEY = "INFERRY_FIRST_KEY"
"""The environment variable: with `none`, no first admin key is made, since what is said would be logged."""

NICENESS = 10
"""Of the loading of journals. They can wait; where cores are few, a gateway process and an engine can't."""

LOAD_S = 0.5
NOTE_S = 2.0
PRUNE_S = 3600.0
_MONEY = (Measure.COST_PER_DAY, Measure.COST_PER_MONTH)


class Bookkeeping:
    """One instance's store. `open` first; then `run` until cancelled; `close` last."""

    def __init__(
        self,
        config: DeploymentFile,
        home: Path,
        clock: Clock,
        on_keys: Callable[[Sequence[ApiKey]], None],
        views: Callable[[], Sequence[ReplicaView]],
        *,
        makes_first_key: bool = True,
        backups: ScheduledBackups | None = None,
    ) -> None:
        """`on_keys`: called on the event loop with all keys, at each change. `views`: the replicas now.
        `makes_first_key`: an admin key, where there is none; whoever opens this has to show it.

        Raises ConfigError for a store that can't be opened at all.
        """
        self.settings = config.ledger
        self.asks_keys = config.gateway.auth == "keys"
        self._makes_first_key = makes_first_key
        self._backups = backups
        self._clock = clock
        self._on_keys = on_keys
        self._views = views
        self.journal_folder = home / "ledger" / "journal"
        self._database = open_database(config.ledger.url or default_url(home))
        self.store = KeyStore(self._database, clock)
        self._loader: Loader | None = None
        self.keyring = KeyRing()
        self.keys: Sequence[ApiKey] = ()
        self._away = False
        self._loaded_s = clock.now_s()
        self._problems: frozenset[str] = frozenset()
        self._lives: dict[tuple[str, float], EngineLife] = {}
        """By replica and start, those that are not in the store as they are now."""
        self._started_wall_s: dict[str, float] = {}
        """By replica: its latest life."""
        self._new_life = asyncio.Event()
        """Noted at once: if all is killed soon, it is known which engine its requests were at."""
        self._sums = PeriodSums(clock, self._sum_up)
        self._loading = asyncio.Lock()
        self._writing = ThreadPoolExecutor(1, "bookkeeping", initializer=_stand_back)
        """One after the other: what `close` writes comes after whatever was under way when `run` was cancelled."""
        self.is_open = asyncio.Event()

    async def open(self) -> str | None:
        """Open and prepare the store. The text of a first admin key, if keys are asked for and none had been made.

        Raises ConfigError or LedgerError: without its store, a gateway that asks for keys can't start.
        """
        await asyncio.to_thread(self._open)
        first = await self.ask_keys(make_admin=self._makes_first_key) if self.asks_keys else None
        self.is_open.set()
        return first

    async def ask_keys(self, *, make_admin: bool) -> str | None:
        """Keys are asked for from now on, and known when this returns. The text of a first admin key, if one was made."""
        self.asks_keys = True
        first = await asyncio.to_thread(self.store.ensure_admin_key) if make_admin else None
        self._take_keys(await asyncio.to_thread(self.store.all))
        return None if first is None else first.text

    def _open(self) -> None:
        self._database.migrate()
        try:
            self._loader = Loader(self._database, self.journal_folder)
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror or error}.") from error
        self._loader.load_once()

    def look_at(self, view: ReplicaView) -> None:
        """Remember what the engine has counted, for `inferry ledger reconcile`. Before `open`, nothing."""
        if view.started_wall_s is None or view.counted_wall_s is None or self._loader is None:
            return
        life = (view.id, view.started_wall_s)
        if self._started_wall_s.get(view.id) != view.started_wall_s:
            self._started_wall_s[view.id] = view.started_wall_s
            self._new_life.set()
        self._lives[life] = EngineLife(
            self._loader.source,
            view.id,
            view.deployment,
            view.engine,
            view.started_wall_s,
            Counters(view.started_wall_s, 0, 0),
            Counters(view.counted_wall_s, view.tokens_prompt, view.tokens_generated),
        )

    async def run(self) -> None:
        """Load journals, note what engines count, watch keys, forget what is too old, make backups; until cancelled."""
        await self.is_open.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._load_forever())
            group.create_task(self._note_forever())
            group.create_task(self._prune_forever())
            group.create_task(watch_keys(self.store, self._take_keys))
            if self._backups is not None:
                group.create_task(self._backups.run())

    async def close(self) -> None:
        """Load what the gateways wrote last, note what the engines counted last, and let go of the store."""
        await self._sums.close()
        if self._loader is not None:
            await self.load()
            await self.note_lives()
        self._writing.shutdown()
        await asyncio.to_thread(self._database.close)

    async def used_before(self, bucket: Bucket, period: int) -> int:
        """Units of a calendar budget that are spent already in that period.

        Raises InferryError while the store can't be asked.
        """
        scope, owner, measure = owner_of(bucket.id)
        spent = (await self.spent(bucket.kind, period)).get((scope, owner), Spent())
        return spent.cost_nano if measure in _MONEY else spent.tokens

    async def spent(self, kind: Kind, period: int) -> Mapping[tuple[str, str], Spent]:
        """What the store has of a calendar period, by scope and owner. Raises InferryError while it can't be asked."""
        await self.is_open.wait()
        return await self._sums.of(kind, period)

    async def usage(self, question: UsageQuestion) -> UsageAnswer:
        """What the ledger has; of the last second it may not have all. Raises InferryError."""
        await self.is_open.wait()
        return await asyncio.to_thread(usage, self._database, question)

    @property
    def behind_s(self) -> float:
        """Since journals were last loaded without a fault."""
        return self._clock.now_s() - self._loaded_s

    async def _sum_up(self, kind: Kind, period: int) -> Mapping[tuple[str, str], Spent]:
        await self.load()
        return await asyncio.to_thread(spent_in, self._database, kind, period)

    async def read_keys(self) -> None:
        """Have the keys as they are now, without waiting for the watch to notice."""
        with contextlib.suppress(InferryError):  # the watch tells, and goes on trying
            self._take_keys(await asyncio.to_thread(self.store.all))

    def _take_keys(self, keys: Sequence[ApiKey]) -> None:
        self.keys = tuple(keys)
        self.keyring.replace(keys)
        self._on_keys(self.keys)

    async def _load_forever(self) -> None:
        while True:
            await asyncio.sleep(LOAD_S)
            await self.load()

    async def load(self) -> None:
        """What the gateways have written, into the store."""
        assert self._loader is not None
        try:
            async with self._loading:
                report = await self._write(self._loader.load_once)
        except InferryError as error:
            if not self._away:
                self._away = True
                log.error("ledger_away", error=error.message, meanwhile="outcomes wait in the journal")
        else:
            self._loaded_s = self._clock.now_s()
            if self._away:
                self._away = False
                log.info("ledger_back")
            for problem in report.problems:
                if problem not in self._problems:  # a file that can't be read is tried twice a second
                    log.error("journal_problem", problem=problem)
            self._problems = frozenset(report.problems)

    async def _note_forever(self) -> None:
        while True:
            for view in self._views():
                self.look_at(view)
            self._new_life.clear()
            await self.note_lives()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NOTE_S):
                    await self._new_life.wait()

    async def note_lives(self) -> None:
        """What was looked at since the last time, into the store."""
        noted, self._lives = self._lives, {}
        if not noted:
            return
        try:
            await self._write(lambda: note_lives(self._database, noted.values()))
        except (InferryError, asyncio.CancelledError) as error:
            self._lives = noted | self._lives
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _write(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, work)

    async def _prune_forever(self) -> None:
        while True:
            before = horizon_wall_s(self._clock.wall_s(), self.settings.keep_days)
            try:
                deleted = await asyncio.to_thread(prune, self._database, before)
            except InferryError as error:
                log.warning("ledger_not_pruned", error=error.message)
            else:
                if deleted:
                    log.info("ledger_pruned", outcomes=deleted)
            await asyncio.sleep(PRUNE_S)


def _stand_back() -> None:
    """For this thread only, where the system can do that: children of the process must not inherit it."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
