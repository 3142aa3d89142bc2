"""A simulated engine's KV cache: blocks of what runs, and blocks that are kept of prompts for those that begin alike.

As vLLM's V1 (docs.vllm.ai, "Automatic Prefix Caching"): a prompt's block is known by a chained id; requests that begin
alike hold it together, and it is counted once; nobody's blocks stay until their room is needed, and then go by least
recent use, a prompt's end before its beginning. What answers need is not counted token by token, but computed from
how many steps have passed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class KvPool:
    """`step` is the number of steps that passed since the begin; an answer has a token more of context with each."""

    __slots__ = ("_cached", "_contexts", "_growing", "_phases", "_quotients", "_shared", "_users", "block_tokens",
                 "blocks_max", "prompt_blocks")  # fmt: skip

    def __init__(self, blocks_max: int, block_tokens: int) -> None:
        self.blocks_max = blocks_max
        self.block_tokens = block_tokens
        self.prompt_blocks = 0
        """Of prompts that are being computed, shared ones counted each time."""
        self._users: dict[int, int] = {}
        """How many running requests hold each block that has an id."""
        self._shared = 0
        """The sum of those."""
        self._cached: OrderedDict[int, None] = OrderedDict()
        """Blocks that nobody holds, the next to go first."""
        # Answers. One whose context is `base + step` fills ceil((base + step) / B) = (v + step) // B blocks, with
        # v = base + B - 1; that is v // B + step // B, and one more where v % B + step % B >= B. So three sums do.
        self._growing = 0
        self._contexts = 0
        """Sum of the bases."""
        self._quotients = 0
        """Sum of v // B."""
        self._phases = [0] * block_tokens
        """How many have each v % B."""

    # --- answers --------------------------------------------------------------------------------------

    def grow(self, base: int) -> None:
        """An answer begins, whose context is `base + step`."""
        v = base + self.block_tokens - 1
        self._growing += 1
        self._contexts += base
        self._quotients += v // self.block_tokens
        self._phases[v % self.block_tokens] += 1

    def stop_growing(self, base: int) -> None:
        """That answer is over."""
        v = base + self.block_tokens - 1
        self._growing -= 1
        self._contexts -= base
        self._quotients -= v // self.block_tokens
        self._phases[v % self.block_tokens] -= 1

    def context_tokens(self, step: int) -> int:
        """Of all answers together."""
        return self._contexts + self._growing * step

    # --- how much is used -----------------------------------------------------------------------------

    def used(self, step: int) -> int:
        """Blocks that running requests hold; those that are only kept don't count."""
        turns, rest = divmod(step, self.block_tokens)
        begun = sum(self._phases[self.block_tokens - rest :]) if rest else 0
        answers = self._quotients + self._growing * turns + begun
        return answers + self.prompt_blocks - self._shared + len(self._users)

    def has_room(self, step: int, more: int = 0) -> bool:
        """Is there room for what runs at `step`, and so many blocks more?"""
        wanted = self.blocks_max - more
        # Never less than it is, and cheaper to know.
        bound = (self._contexts + self._growing * step) // self.block_tokens + self._growing + 1
        if bound + self.prompt_blocks - self._shared + len(self._users) <= wanted:
            return True
        return self.used(step) <= wanted

    # --- blocks with an id ----------------------------------------------------------------------------

    @property
    def cached(self) -> int:
        """Blocks that are kept for nobody yet."""
        return len(self._cached)

    def known(self, blocks: Sequence[int]) -> int:
        """How many of them, from the first on, are here."""
        users, cached = self._users, self._cached
        known = 0
        for block in blocks:
            if block not in users and block not in cached:
                break
            known += 1
        return known

    def unused(self, blocks: Sequence[int], known: int) -> int:
        """How many of the first `known` are only kept: to hold them takes room."""
        cached = self._cached
        return sum(1 for block in blocks[:known] if block in cached)

    def hold(self, blocks: Sequence[int], begin: int, end: int) -> None:
        """A running request has computed, or found, blocks[begin:end]; others may hold them too from now on."""
        users, cached = self._users, self._cached
        for block in blocks[begin:end]:
            count = users.get(block)
            if count is None:
                cached.pop(block, None)
                users[block] = 1
            else:
                users[block] = count + 1
        self._shared += end - begin

    def let_go(self, blocks: Sequence[int], held: int) -> None:
        """A request that held the first `held` of them doesn't any more; they stay while there is room."""
        users, cached = self._users, self._cached
        for block in reversed(blocks[:held]):
            count = users[block]
            if count == 1:
                del users[block]
                cached[block] = None
            else:
                users[block] = count - 1
        self._shared -= held

    def keep(self, blocks: Sequence[int]) -> None:
        """Nobody holds them, and they are here from now on: of an answer that ended."""
        users, cached = self._users, self._cached
        for block in reversed(blocks):
            if block not in users:
                cached[block] = None
                cached.move_to_end(block)

    def evict(self, step: int) -> None:
        """Forget what has no room beside what runs at `step`. To be asked before blocks with ids come or go."""
        cached = self._cached
        if not cached or self.has_room(step, len(cached)):
            return
        room = self.blocks_max - self.used(step)
        while len(cached) > max(room, 0):
            cached.popitem(last=False)
