"""What the control process keeps beside the traffic: the store, the keys as they are now, and journals loaded into it.

Nothing here is on a request's way: while the store is away, gateways go on with the keys that they have, and
journals wait on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from inferry.core.api_key import ApiKey
from inferry.core.clock import Clock
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError, InferryError
from inferry.core.leases import Bucket, Kind, owner_of
from inferry.ledger.database import default_url, open_database
from inferry.ledger.key_watch import watch_keys
from inferry.ledger.keyring import KeyRing
from inferry.ledger.keys import KeyStore
from inferry.ledger.loader import Loader
from inferry.ledger.retention import horizon_wall_s, prune
from inferry.ledger.usage import Spent, spent_since

log = structlog.get_logger()

LOAD_S = 0.5
PRUNE_S = 3600.0
_MONEY = ("cost_per_day", "cost_per_month")


class Bookkeeping:
    """One instance's store. `open` first; then `run` until cancelled; `close` last."""

    def __init__(
        self,
        config: DeploymentFile,
        home: Path,
        clock: Clock,
        on_keys: Callable[[Sequence[ApiKey]], None],
    ) -> None:
        """`on_keys`: called on the event loop with all keys, at each change. Raises ConfigError for a store that can't
        be opened at all."""
        self.settings = config.ledger
        self.asks_keys = config.gateway.auth == "keys"
        self._clock = clock
        self._on_keys = on_keys
        self.journal_folder = home / "ledger" / "journal"
        self._database = open_database(config.ledger.url or default_url(home))
        self.store = KeyStore(self._database, clock)
        self._loader: Loader | None = None
        self.keyring = KeyRing()
        self.keys: Sequence[ApiKey] = ()
        self._away = False
        self._loading = asyncio.Lock()
        self.is_open = asyncio.Event()

    async def open(self) -> str | None:
        """Open and prepare the store. The text of a first admin key, if keys are asked for and none had been made.

        Raises ConfigError or LedgerError: without its store, a gateway that asks for keys can't start.
        """
        await asyncio.to_thread(self._open)
        first = await self.ask_keys() if self.asks_keys else None
        self.is_open.set()
        return first

    async def ask_keys(self) -> str | None:
        """Keys are asked for from now on, and known when this returns. The text of a first admin key, if one had to
        be made."""
        self.asks_keys = True
        first = await asyncio.to_thread(self.store.ensure_admin_key)
        self._take_keys(await asyncio.to_thread(self.store.all))
        return None if first is None else first.text

    def _open(self) -> None:
        self._database.migrate()
        try:
            self._loader = Loader(self._database, self.journal_folder)
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror or error}.") from error
        self._loader.load_once()

    async def run(self) -> None:
        """Load journals, watch keys, forget what is too old; until cancelled."""
        await self.is_open.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._load_forever())
            group.create_task(self._prune_forever())
            group.create_task(watch_keys(self.store, self._take_keys))

    async def close(self) -> None:
        """Load what the gateways wrote last, and let go of the store."""
        if self._loader is not None:
            await self._load()
        await asyncio.to_thread(self._database.close)

    async def used_before(self, bucket: Bucket, period: int) -> int:
        """Units of a calendar budget that are spent already; 0 for what the ledger does not sum up."""
        scope, owner, measure = owner_of(bucket.id)
        await self.is_open.wait()
        await self._load()
        spent = (await asyncio.to_thread(spent_since, self._database, self._clock.wall_s())).get(
            (scope, owner)
        )
        spent = spent or Spent()
        if bucket.kind is Kind.DAY:
            return spent.day_cost_nano if measure.value in _MONEY else spent.day_tokens
        return spent.month_cost_nano if measure.value in _MONEY else spent.month_tokens

    def _take_keys(self, keys: Sequence[ApiKey]) -> None:
        self.keys = tuple(keys)
        self.keyring.replace(keys)
        self._on_keys(self.keys)

    async def _load_forever(self) -> None:
        while True:
            await asyncio.sleep(LOAD_S)
            await self._load()

    async def _load(self) -> None:
        assert self._loader is not None
        try:
            async with self._loading:
                await asyncio.to_thread(self._loader.load_once)
        except InferryError as error:
            if not self._away:
                self._away = True
                log.error("ledger_away", error=error.message, meanwhile="outcomes wait in the journal")
        else:
            if self._away:
                self._away = False
                log.info("ledger_back")

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
