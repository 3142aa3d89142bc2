"""The bank of limits that many hosts share, in a Redis or Valkey.

The rules of policy/lease_bank.py, as a Lua script by Redis' own clock: one round trip for a batch of exchanges.
Every key ends by itself. Keys carry the id of the server's run: a server that was restarted may have lost some of
its counts or all, so nothing old is believed, and each host tells again what it knows.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from inferry.core.clock import Clock
from inferry.core.errors import ConfigError, LimitsUnavailable
from inferry.core.leases import Bucket, Grant, Kind, Return, Times, Wish
from inferry.core.shown_url import shown_url

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT_S = 0.25
"""A Redis that takes longer is gone. Measured round trips are below 0.001 s."""
HOST_TTL_S = 10.0
"""A host that was silent for so long is not counted any more."""
PERIOD_IDLE_S = 3 * 3600.0
"""As in policy/lease_bank.py."""
DRIFT_S = 1e-6
"""Of two clocks, per exchange."""
AHEAD_SHARE = 10
"""As in policy/lease_bank.py."""

_SCRIPT = Path(__file__).with_name("redis_limits.lua")
_KINDS = {Kind.WINDOW: 0, Kind.PERMITS: 1, Kind.DAY: 2, Kind.MONTH: 3}


@dataclass(slots=True)
class Order:
    """One exchange of one holder."""

    holder: str
    wishes: Sequence[Wish] = ()
    returns: Sequence[Return] = ()
    starts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By bucket id: a calendar period, and what the ledger has of it."""
    grants: list[Grant] = field(default_factory=list)
    unknown: set[tuple[Bucket, int]] = field(default_factory=set)
    """Calendar buckets, each with its period, that must have a start first; their grants are `unavailable`."""


class RedisBank:
    """One host's connection to the shared bank. After a LimitsUnavailable, `connect` again."""

    def __init__(
        self,
        url: str,
        namespace: str,
        host: str,
        *,
        clock: Clock,
        times: Times | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`host` must be another one after each start of this process, too."""
        self._url = url
        self._prefix = f"{{{namespace}}}:limits"
        self._host = host
        self._clock = clock
        self.times = Times() if times is None else times
        self._timeout_s = timeout_s
        self._client: Redis | None = None
        self._digest = ""
        self._number = 0
        self._permits: dict[str, set[str]] = {}
        """Holder to its permit buckets, for `forget`."""
        self._run_prefix = self._prefix
        self.run_id = ""
        """Of the server process; counts live and die with it."""
        self.hosts: list[str] = []
        """Ids of the hosts that are present, sorted; this one is among them."""
        # Until Redis has told: by this machine's own clock.
        self._ahead_s = clock.wall_s() - clock.now_s()
        self._ahead_most_s = -math.inf

    def now_s(self) -> float:
        """Seconds since 1970 by Redis' clock, never ahead of it and at most a round trip behind it."""
        return self._clock.now_s() + self._ahead_s

    def _learn_time(self, told_s: float, asked_s: float, received_s: float) -> None:
        """Redis read its clock somewhere between the question and its answer: two bounds, kept as tight as seen.

        An answer that this host was slow to read would set it back otherwise, and when the next one puts it right,
        a second of this host's own would be over too soon.
        """
        least_s, most_s = told_s - received_s, told_s - asked_s
        if most_s < self._ahead_s or least_s > self._ahead_most_s:
            self._ahead_s, self._ahead_most_s = least_s, most_s
        else:
            # Two machines' clocks drift apart; within a heartbeat by far less than this.
            self._ahead_s = max(self._ahead_s - DRIFT_S, least_s)
            self._ahead_most_s = min(self._ahead_most_s + DRIFT_S, most_s)

    async def connect(self) -> None:
        """Raises LimitsUnavailable; ConfigError if the client library is missing or the URL can't be read."""
        try:
            import redis.asyncio as redis_asyncio
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as missing:
            raise ConfigError(
                "gateway.shared_limits.redis needs a library that is not installed. "
                "Install it: pip install 'inferry[redis]'"
            ) from missing
        await self.close()
        try:
            self._client = redis_asyncio.Redis.from_url(
                self._url,
                single_connection_client=True,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise ConfigError(f"gateway.shared_limits.redis can't be read: {error}") from error
        info = await self._ask(lambda client: client.info("server"))
        self._digest = await self._ask(lambda client: client.script_load(_SCRIPT.read_text("utf-8")))
        self.run_id = str(info["run_id"])
        self._run_prefix = f"{self._prefix}:{self.run_id[:12]}"
        await self.exchange([])

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            _abort(client)
            try:
                async with asyncio.timeout(self._timeout_s):
                    await client.aclose()
            except Exception:  # noqa: BLE001, S110 - it is given up in any case
                pass

    async def gathering_s(self, lasts_s: float) -> float:
        """How long the hosts that come back still wait for each other; the first one to ask begins the wait."""
        key = f"{self._run_prefix}:gathering"
        await self._ask(lambda client: client.set(key, self._host, nx=True, px=_ms(lasts_s)))
        left_ms = int(await self._ask(lambda client: client.pttl(key)))
        return max(0, left_ms) / 1000

    async def exchange(self, orders: Sequence[Order]) -> None:
        """Fill in the orders' grants, and what is unknown. With no orders: say that this host is present.

        Raises LimitsUnavailable; then nobody knows whether the orders were carried out.
        """
        answers = iter(await self._run(orders))
        for order in orders:
            own = [(wish, next(answers)) for wish in order.wishes]
            order.grants = [self._grant(wish, answer) for wish, answer in own]
            order.unknown = {(wish.bucket, answer[5]) for wish, answer in own if answer[5] >= 0}

    async def forget(self, holder: str) -> None:
        """The holder is gone: free its permits. Raises LimitsUnavailable; then they end by themselves."""
        buckets = self._permits.pop(holder, set())
        if buckets:
            await self._call(
                sorted(buckets), [], [], [(place, self._full(holder)) for place in range(2, 2 + len(buckets))]
            )

    # --- inside ---------------------------------------------------------------------------------------

    def _full(self, holder: str) -> str:
        return f"{self._host}/{holder}"

    async def _run(self, orders: Sequence[Order]) -> list[Any]:
        """The script's answers to all orders' wishes, one after the other."""
        places: dict[str, int] = {}

        def place(bucket: Bucket) -> int:
            return places.setdefault(bucket.id, len(places) + 2)

        charges, wishes = [], []
        for order in orders:
            for each in order.returns:
                charges.append((place(each.bucket), _KINDS[each.bucket.kind], each.slot, -each.units))
            for wish in order.wishes:
                bucket = wish.bucket
                if bucket.kind is Kind.PERMITS:
                    self._permits.setdefault(order.holder, set()).add(bucket.id)
                wishes.append(
                    (
                        place(bucket), _KINDS[bucket.kind], bucket.limit, self._full(order.holder), wish.least,
                        wish.most, wish.need, wish.want, wish.held, *order.starts.get(bucket.id, (-1, 0)),
                    )
                )  # fmt: skip
        return await self._call(list(places), charges, wishes, [])

    async def _call(
        self, buckets: list[str], charges: list[Any], wishes: list[Any], forgets: list[Any]
    ) -> list[Any]:
        self._number += 1
        asked_s = self._clock.now_s()
        times = self.times
        packed = msgspec.msgpack.encode(
            (
                self._host, _ms(HOST_TTL_S), self._number,
                (_ms(times.slot_s), _ms(times.kept_s), _ms(times.permit_ttl_s), _ms(PERIOD_IDLE_S), AHEAD_SHARE),
                charges, wishes, forgets,
            )
        )  # fmt: skip
        keys = [f"{self._prefix}:hosts", *(f"{self._run_prefix}:{bucket}" for bucket in buckets)]
        reply = await self._ask(lambda client: client.evalsha(self._digest, len(keys), *keys, packed))
        received_s = self._clock.now_s()
        now_ms, hosts, answers = msgspec.msgpack.decode(reply)
        self._learn_time(now_ms / 1000, asked_s, received_s)
        self.hosts = sorted(hosts)
        # An empty Lua table is packed as an empty map or list, as it likes.
        return list(answers) if answers else []

    def _grant(self, wish: Wish, answer: list[Any]) -> Grant:
        units, slot, left, retry_ms, reset_ms, unknown_period = answer
        if unknown_period >= 0:
            return Grant(wish.bucket.id, unavailable=True)
        is_permits = wish.bucket.kind is Kind.PERMITS
        lasts_s = self.times.permit_ttl_s if is_permits else self.times.lease_s
        return Grant(
            wish.bucket.id, int(units), int(slot), lasts_s, int(left), retry_ms / 1000, reset_ms / 1000
        )

    async def _ask(self, command: Callable[[Redis], Any]) -> Any:
        import redis.exceptions

        client = self._client
        if client is None:
            raise LimitsUnavailable(f"Redis at {shown_url(self._url)} is not connected.")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await command(client)
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            await self.close()
            said = str(error) or f"no answer within {self._timeout_s:g} s"
            raise LimitsUnavailable(f"Redis at {shown_url(self._url)} can't be asked: {said}") from error


def _abort(client: Redis) -> None:
    """Nothing is worth waiting for. The library waits for a peer that may be frozen, and gives a connection up that it
    has waited for too long; an event loop that is to be closed would wait for it forever then."""
    pool = client.connection_pool
    for connection in (client.connection, *pool._available_connections, *pool._in_use_connections):
        writer = getattr(connection, "_writer", None)
        if writer is not None:
            writer.transport.abort()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
