"""A simulated replica's prefix cache: blocks of prompts, the least recently used ones go first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class SimulatedPrefixCache:
    """Which blocks are there. An equal id means an equal prompt up to the block's end, as in chained hashes."""

    def __init__(self, tokens_max: int, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._blocks_max = tokens_max // block_tokens
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def cached_tokens(self, blocks: Sequence[int], prompt_tokens: int) -> int:
        """How many of the prompt's first tokens need no computing; never all, since the last one always does."""
        known = 0
        cached = self._blocks
        for block in blocks:
            if block not in cached:
                break
            known += 1
        return min(known * self.block_tokens, max(prompt_tokens - 1, 0))

    def add(self, blocks: Sequence[int]) -> None:
        """They were computed, or used, now. A prompt's end goes before its beginning, which alone is of use."""
        cached = self._blocks
        for block in reversed(blocks):
            cached[block] = None
            cached.move_to_end(block)
        while len(cached) > self._blocks_max:
            cached.popitem(last=False)
