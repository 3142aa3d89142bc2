"""What calendar budgets begin with, asked of the ledger while requests wait: soon, or not known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence

from inferry.core.errors import InferryError
from inferry.core.leases import Bucket, Grant, Wish

UsedBefore = Callable[[Bucket, int], Awaitable[int]]
"""Units that the ledger has of a bucket's calendar period; `core.leases.owner_of` says whose they are. Raises
InferryError while the ledger can't be asked."""

LOOK_UP_MAX_S = 0.5
"""Gateway processes wait for a second; then even what needs no look-up would come too late."""


async def starts_of(
    periods: Iterable[tuple[Bucket, int]], used_before: UsedBefore
) -> dict[str, tuple[int, int]]:
    """By bucket id: the period, and what was used in it. What is not known in time is not in it; never fails."""
    starts: dict[str, tuple[int, int]] = {}
    try:
        async with asyncio.timeout(LOOK_UP_MAX_S):
            for bucket, period in periods:
                starts[bucket.id] = (period, await used_before(bucket, period))
    except (InferryError, TimeoutError):
        pass  # whose store it is has logged why; the rest would fare no better
    return starts


def with_gaps(wishes: Sequence[Wish], unknown: Container[str], grants: Iterable[Grant]) -> list[Grant]:
    """`grants` are those of the other wishes, in their order; an unknown bucket's wish gets one that says so."""
    rest = iter(grants)
    return [
        Grant(wish.bucket.id, unavailable=True) if wish.bucket.id in unknown else next(rest)
        for wish in wishes
    ]


def filled(
    wishes: Sequence[Wish], grants: Sequence[Grant], late: Container[str], more: Iterable[Grant]
) -> list[Grant]:
    """`grants`, but for the late buckets those that came after all."""
    rest = iter(more)
    return [
        next(rest) if wish.bucket.id in late else grant for wish, grant in zip(wishes, grants, strict=True)
    ]
