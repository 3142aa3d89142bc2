"""Which beginnings of prompts each replica has seen: a bounded index over hashes of their blocks.

A block's hash is chained: two equal ones mean that the prompts are equal from the first letter up to that block's
end. So the longest common beginning is found block by block, with one look into a dict for each, for all replicas
at once: an entry is the set of replicas that have the block, as the bits of a number.

Bounds. A replica's blocks are a list by last use; the oldest go when they hold more than its cache
(`capacity_tokens`), or when there are more than its share of `entries_max`. An entry, a block at a replica, takes
about 250 bytes, so `entries_max` bounds the memory. Each `learn` evicts at most EVICTED_MORE blocks more than it
brings, so no single request pays for many.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

ENTRIES_MAX = 400_000
"""Blocks at replicas, all together: about 100 MB (tests/unit/policy/test_prefix_index.py measures)."""
EVICTED_MORE = 16
LEARN = 0.01
"""Share of the newest request in the average of a block's tokens."""


@dataclass(slots=True, eq=False)
class Shelf:
    """What one replica has seen. `bit` stands for it in the index."""

    bit: int
    capacity_tokens: float
    block_tokens: float = 0.0
    """Of one block: a moving average, since nobody counts single ones."""
    prompts: int = 0
    """Ever seen."""
    blocks: OrderedDict[int, int] = field(default_factory=OrderedDict)
    """Each with the number of the last prompt that had it; last used last."""

    @property
    def held_tokens(self) -> float:
        return len(self.blocks) * self.block_tokens


class PrefixIndex:
    """One per deployment and gateway process: it knows what this process has sent."""

    def __init__(self, entries_max: int = ENTRIES_MAX) -> None:
        self._entries_max = entries_max
        self._owners: dict[int, int] = {}
        self._shelves: dict[int, Shelf] = {}
        self._each_max = entries_max

    def __len__(self) -> int:
        """Blocks at replicas."""
        return sum(len(shelf.blocks) for shelf in self._shelves.values())

    def add(self, capacity_tokens: float) -> Shelf:
        """A replica with an empty cache of that size."""
        bit = 1
        while bit in self._shelves:
            bit <<= 1
        shelf = self._shelves[bit] = Shelf(bit, capacity_tokens)
        self._each_max = self._entries_max // len(self._shelves)
        for each in self._shelves.values():
            self._evict(each, len(each.blocks))
        return shelf

    def remove(self, shelf: Shelf) -> None:
        """The replica is gone for good."""
        self.clear(shelf)
        del self._shelves[shelf.bit]
        self._each_max = self._entries_max // max(len(self._shelves), 1)

    def clear(self, shelf: Shelf) -> None:
        """Its cache is empty: it was started anew."""
        for block in shelf.blocks:
            self._disown(block, shelf.bit)
        shelf.blocks.clear()

    def depths(self, blocks: Sequence[int], among: int) -> list[tuple[int, int]]:
        """How many of the first `blocks` each replica of the bits `among` has seen: pairs of a depth above 0 and the
        bits of those who have exactly so many, the shallowest first.
        """
        found: list[tuple[int, int]] = []
        owners = self._owners
        depth = 0
        for block in blocks:
            still = owners.get(block, 0) & among
            if still != among:
                if depth:
                    found.append((depth, among ^ still))
                among = still
                if not among:
                    return found
            depth += 1
        if depth and among:
            found.append((depth, among))
        return found

    def learn(self, shelf: Shelf, blocks: Sequence[int], tokens_each: float) -> None:
        """The replica computes, or uses, these now. A prompt's end is evicted before its beginning."""
        held = shelf.blocks
        owners = self._owners
        bit = shelf.bit
        shelf.prompts = number = shelf.prompts + 1
        new = 0
        for block in reversed(blocks):
            if block in held:
                held.move_to_end(block)
            else:
                owners[block] = owners.get(block, 0) | bit
                new += 1
            held[block] = number
        shelf.block_tokens += (tokens_each - shelf.block_tokens) * (LEARN if shelf.block_tokens else 1.0)
        if len(held) * shelf.block_tokens > shelf.capacity_tokens or len(held) > self._each_max:
            self._evict(shelf, new + EVICTED_MORE)

    def unlearn(self, shelf: Shelf, blocks: Sequence[int]) -> None:
        """The replica has none of these: it said so, or failed before it computed them."""
        for block in blocks:
            if shelf.blocks.pop(block, None) is not None:
                self._disown(block, shelf.bit)

    def _evict(self, shelf: Shelf, most: int) -> None:
        """Down to its bounds, but no more than `most` blocks now."""
        blocks = shelf.blocks
        blocks_max = self._each_max
        if shelf.block_tokens:
            blocks_max = min(blocks_max, int(shelf.capacity_tokens / shelf.block_tokens))
        owners, others = self._owners, ~shelf.bit
        for _ in range(min(len(blocks) - blocks_max, most)):
            block = blocks.popitem(last=False)[0]
            if left := owners[block] & others:
                owners[block] = left
            else:
                del owners[block]

    def _disown(self, block: int, bit: int) -> None:
        left = self._owners[block] & ~bit
        if left:
            self._owners[block] = left
        else:
            del self._owners[block]
