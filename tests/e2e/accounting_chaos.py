"""Load, and what goes wrong meanwhile: engines and gateway processes are killed, and now and then all of Inferry."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from inferry.testing.simulated_engine import RECORD_VARIABLE

from .accounts import Findings, check_accounts
from .fickle_clients import Ask, perform, random_ask
from .inferry_process import Inferry, Up, process_gone, wait_for

FILE = """
gateway: {{workers: 2, attempts_max: 5}}
deployments:
  chat:
    engine: simulated
    replicas: {replicas}
    ttft_ms: 20
    itl_ms: 10
    price: {{prompt_per_mtok: 0.5, completion_per_mtok: 1.5}}
    health: {{interval_s: 0.5}}
    restart: {{crashes_max: 1000, backoff_initial_s: 0.1, backoff_max_s: 0.2}}
"""


def seeded_dice() -> random.Random:
    """The seed is printed; set INFERRY_CHAOS_SEED to repeat a run."""
    seed = int(os.environ.get("INFERRY_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
    sys.stdout.write(f"INFERRY_CHAOS_SEED={seed}\n")
    return random.Random(seed)


@dataclass(frozen=True, slots=True)
class Plan:
    asks: int
    clients: int
    replicas: int
    engine_kills: int
    gateway_kills: int
    whole_kills: int
    clients_leave: bool = True


def run_chaos(folder: Path, dice: random.Random, plan: Plan) -> Findings:
    """Run all of it; after the last, orderly end, hold the books against each other."""
    record = folder / "record"
    record.mkdir()
    inferry = Inferry(folder)
    inferry.environ[RECORD_VARIABLE] = str(record)
    inferry.write(FILE.format(replicas=plan.replicas))
    asks = [random_ask(dice, f"{number:04}") for number in range(plan.asks)]
    if not plan.clients_leave:
        for ask in asks:
            ask.leave = "never"
    kinds = ["engine"] * plan.engine_kills + ["gateway"] * plan.gateway_kills + ["whole"] * plan.whole_kills
    places = dice.sample(range(1, plan.asks - 1), len(kinds))
    kills = dict(zip(places, kinds, strict=True))
    begun = 0
    while begun < plan.asks:
        with inferry.up() as up:
            url = up.wait_ready()
            begun = asyncio.run(_Life(up, url, record, dice, kills).run(asks, begun, plan.clients))
    findings = check_accounts(inferry, asks, record)
    sys.stdout.write(f"{findings}\n")
    return findings


class _Life:
    """One `inferry up` under load, to its orderly end or until it is killed."""

    def __init__(self, up: Up, url: str, record: Path, dice: random.Random, kills: dict[int, str]) -> None:
        self._up = up
        self._record = record
        address = urlsplit(url)
        self._host, self._port = str(address.hostname), int(address.port or 0)
        self._dice = dice
        self._kills = kills
        self._next = 0
        self._over = False

    async def run(self, asks: list[Ask], begun: int, clients: int) -> int:
        """Ask from number `begun` on; returns the number at which the next life must go on."""
        self._next = begun
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._ask_on(asks))
        return self._next

    async def _ask_on(self, asks: list[Ask]) -> None:
        while self._next < len(asks) and not self._over:
            number = self._next
            self._next += 1
            kind = self._kills.pop(number, None)
            if kind == "whole":
                self._over = True
                self._kill_all()
            elif kind is not None:
                self._kill_one(kind)
            await perform(asks[number], self._host, self._port)

    def _kill_one(self, kind: str) -> None:
        # All of it may be killed meanwhile, or this very process have been a moment ago.
        with contextlib.suppress(OSError):
            pids = self._up.gateway_pids() if kind == "gateway" else self._engine_pids()
            if pids:
                os.kill(self._dice.choice(pids), signal.SIGKILL)

    def _engine_pids(self) -> list[int]:
        """Those that run, by the records that they write."""
        pids = sorted(int(path.stem) for path in self._record.glob("*.jsonl"))
        return [pid for pid in pids if not process_gone(pid) and self._is_ours(pid)]

    def _is_ours(self, pid: int) -> bool:
        return os.fsencode(self._record) in Path(f"/proc/{pid}/environ").read_bytes()

    def _kill_all(self) -> None:
        pids = [*self._up.gateway_pids(), self._up.process.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._up.process.wait()
        wait_for("all of it is gone", lambda: all(map(process_gone, pids)))
