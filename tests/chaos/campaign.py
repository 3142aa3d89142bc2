"""Streams on a running Inferry while something is done to its replicas; afterwards, what came of it in figures."""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.inferry_process import Inferry

from .books import Books, read_books
from .load import Load, random_asks
from .stand import Stand, write_file
from .strict_client import Heard

SHOWN_MAX = 12


@dataclass(slots=True)
class Scene:
    """What a harm has at hand."""

    inferry: Inferry
    stand: Stand
    load: Load
    dice: random.Random
    log: list[str] = field(default_factory=list)
    """What was done, and when; shown if anything goes wrong."""
    begun_s: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        self.log.append(f"{time.monotonic() - self.begun_s:7.2f} s  {text}")


Harm = Callable[[Scene], Coroutine[Any, Any, None]]
"""Goes on until its work is done or the load stops."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """How much load, for how long, on what."""

    seconds: float
    streams: int = 200
    tokens_max: int = 80
    gateway: dict[str, Any] = field(default_factory=dict)
    chat: dict[str, Any] = field(default_factory=dict)
    """Keys of the deployment, beside those in stand.py."""
    environ: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Findings:
    """All that clients heard and that the books say."""

    heard: list[Heard]
    books: Books
    log: list[str]
    seconds: float

    def faults(self) -> list[str]:
        faults = [f"{each.ask.id} at {each.replica}: {fault}" for each in self.heard for fault in each.faults]
        return faults + self.books.faults

    def require_no_fault(self, *, reconciled: bool = True) -> None:
        """Raises AssertionError with the first faults, of clients and books; `reconciled`: the engines' too."""
        faults = self.faults() + (self.books.unexplained if reconciled else [])
        if faults:
            more = [f"... and {len(faults) - SHOWN_MAX} more"] if len(faults) > SHOWN_MAX else []
            raise AssertionError("\n".join([*faults[:SHOWN_MAX], *more, "what was done:", *self.log[-40:]]))

    def pauses_s(self, *, resumed: bool) -> list[float]:
        """The longest pause inside each whole stream that was resumed, or that was not."""
        ids = {each.ask.id for each in self.books.resumed(self.heard)}
        return [
            each.longest_pause()[0] for each in self.heard if (each.ask.id in ids) is resumed and each.events
        ]

    def replicas(self) -> Counter[str]:
        """Where streams began."""
        return Counter(each.replica for each in self.heard)

    def waits_s(self) -> list[float]:
        """From asking to the first event."""
        return [each.first_event_s - each.begun_s for each in self.heard if each.events]

    def lines(self) -> list[str]:
        counts = self.books.counts()
        tokens = sum(each.ask.expected.completion_tokens for each in self.heard)
        return [
            f"{len(self.heard):,} streams with {tokens:,} tokens in {self.seconds:.0f} s; faults: {len(self.faults())}",
            f"outcomes: {dict(sorted(counts.items()))}",
            f"longest pause in streams that were resumed: {spread(self.pauses_s(resumed=True))}",
            f"longest pause in the others: {spread(self.pauses_s(resumed=False))}",
            f"time to the first event: {spread(self.waits_s())}",
        ]


def spread(values: Sequence[float]) -> str:
    """`p50 x ms, p99 y ms, max z ms of n`."""
    if not values:
        return "none"
    p50, p99, most = (1000 * quantile(values, share) for share in (0.5, 0.99, 1.0))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {most:.0f} ms (of {len(values):,})"


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


async def run_campaign(folder: Path, dice: random.Random, campaign: Campaign, harm: Harm) -> Findings:
    """Start Inferry, load it, do harm, let all streams end, end Inferry in order, and read its books."""
    inferry = Inferry(folder)
    inferry.environ.update(campaign.environ)
    write_file(inferry, campaign.gateway, **campaign.chat)
    with inferry.up() as up:
        url = up.wait_ready()
        scene = Scene(
            inferry,
            Stand(up),
            Load(url, random_asks(dice, tokens_max=campaign.tokens_max), campaign.streams),
            dice,
        )
        await scene.stand.until_all_ready(campaign.chat.get("replicas", 4))
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(scene.load.run())
            harming = group.create_task(harm(scene))
            await scene.load.pause(campaign.seconds)
            scene.load.stop()
            await harming
        seconds = time.monotonic() - begun_s
    findings = Findings(scene.load.heard, read_books(inferry, scene.load.heard), scene.log, seconds)
    sys.stdout.write("\n".join([*findings.lines(), ""]))
    return findings
