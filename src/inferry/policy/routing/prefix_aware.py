"""Where the prompt's beginning is cached, unless the way there is too crowded.

Every candidate has a price in tokens, and the lowest wins; of equals, the one that was given least to compute of
late:

    waiting prompt tokens + 1,000 per request under way + 16 * tokens of this prompt that it must compute

The first two say how long the request would wait and how much it would be slowed down; the third is what it costs
itself and, many times over, everybody after it: computing what another replica has cached takes room in a cache
from something that is of use, and time from all that wait behind. But where the crowd is made of requests that begin
like this one, a second copy is what helps: if n prompts have gone there since the last one that began so, a cached
token counts 16 - 15 / (n + 1) instead of 16. No threshold: a crowded replica loses a request as soon as the crowd
costs more than the cache saves.

Worked: 8,000 tokens of a prompt of 9,000 are cached at A, from long ago, and none at B. A costs 16,000 more than its
load, B 144,000: B gets it if A has over 128,000 tokens more waiting, or 128 requests more. Had the last prompt at A
begun with these 8,000 tokens, too, then 8,000 tokens or 8 requests more would do.

Why these factors: in replays of Mooncake's traces on simulated replicas (docs/prefix-routing.md), 1 instead of 16
loses a fifth of the cache hits, and without the discount one prompt that all share crowds one replica. 1,000 tokens
is what a request that is being answered takes from the others: 300 tokens of answer at 0.3 ms each, where 10,000
tokens of prompt take 1 s.

What is expected of a cache is checked (prefix_trust.py): where engines had fewer tokens cached than expected, the
replica's cached tokens count for less, and its cache is taken to be smaller.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from math import exp

from inferry.core.replica import ReplicaState
from inferry.policy.routing.facts import NO_FACTS, RouteFacts, Seen
from inferry.policy.routing.policy import Fact, Policy
from inferry.policy.routing.prefix_index import PrefixIndex, Shelf
from inferry.policy.routing.prefix_trust import CacheTrust, capacity_after
from inferry.policy.routing.slot import Slot

COMPUTED_FACTOR = 16.0
"""Price of a token that must be computed, in tokens that wait."""
REQUEST_TOKENS = 1000.0
"""Price of a request under way."""
RECENT_S = 600.0
"""How long the tokens that a replica was given to compute count in a tie: falls to a third in that time."""
RESCALE = 40.0
"""Time constants after which the counts of recent tokens are brought back to small numbers."""
LOOKED_AT_MAX = 32
"""Candidates with equally much in the cache that are compared with each other; of more, SAMPLED."""
SAMPLED = 16
_GONE = (
    ReplicaState.PENDING,
    ReplicaState.STARTING,
    ReplicaState.WARMING,
    ReplicaState.STOPPED,
    ReplicaState.FAILED,
)


@dataclass(slots=True, eq=False)
class _Sent:
    """One attempt under way: what was expected of it."""

    hit_tokens: float
    computed_tokens: int
    """Whole, so that a replica with nothing to do has exactly 0 waiting: equals must be equal."""
    known_blocks: int
    waiting: bool = True


@dataclass(slots=True, eq=False)
class _Replica:
    """A slot with what this policy knows of it. `load` in tokens, per weight."""

    slot: Slot
    shelf: Shelf
    waiting_tokens: int = 0
    load: float = 0.0
    inverse: float = 1.0
    """Of its weight."""
    recent: float = 0.0
    trust: CacheTrust = field(default_factory=CacheTrust)
    sent: dict[int, list[_Sent]] = field(default_factory=dict)
    """By the identity of the request's facts."""

    def weigh(self) -> None:
        slot = self.slot
        requests = slot.in_flight + slot.others
        self.inverse = 1.0 / slot.weight
        self.load = (self.waiting_tokens + REQUEST_TOKENS * requests) * self.inverse


class PrefixAware(Policy):
    """Exact up to LOOKED_AT_MAX candidates with equally much in their caches."""

    wants = frozenset[Fact](("prompt_tokens", "blocks"))

    def __init__(self, cache_tokens: int) -> None:
        """`cache_tokens`: what one replica's prefix cache holds, at first guess."""
        self._cache_tokens = float(cache_tokens)
        self._index = PrefixIndex()
        self._replicas: dict[Slot, _Replica] = {}
        self._by_bit: dict[int, _Replica] = {}
        self._candidates = 0
        self._few: Sequence[_Replica] = ()
        """All candidates, where they are few enough to look at each."""
        self._since_s: float | None = None
        self._scale = 1.0
        self._scaled_until_s = float("-inf")
        self._picks = 0
        self._picked: _Replica | None = None
        self._picked_for = NO_FACTS
        self._known_blocks = 0
        """Of the last pick."""
        self._told = (_Sent(0.0, 0, 0), 0)
        """Of the last choice: what was expected of it, and the tokens that waited before it."""

    # --- choosing -------------------------------------------------------------------------------------

    def set_candidates(self, slots: Sequence[Slot]) -> None:
        candidates = [self._replica(slot) for slot in slots]
        bits = 0
        for each in candidates:
            bits |= each.shelf.bit
            each.weigh()
        self._candidates = bits
        self._few = candidates if len(candidates) <= LOOKED_AT_MAX else ()
        for slot, replica in self._replicas.items():
            if slot.state in _GONE and replica.shelf.blocks:
                self._index.clear(replica.shelf)  # when it comes back, it begins with an empty cache

    def pick(self, exclude: Collection[str], facts: RouteFacts, now_s: float) -> Slot | None:
        bits = self._candidates
        if exclude:
            for slot, replica in self._replicas.items():
                if slot.id in exclude:
                    bits &= ~replica.shelf.bit
        if not bits:
            return None
        self._picks += 1
        whole = COMPUTED_FACTOR * facts.prompt_tokens
        best: _Replica | None = None
        best_price = 0.0
        best_depth = 0
        # Where all can be looked at, those with nothing cached are simply all: what others save makes them cheaper
        # still in their own group.
        all_few = self._few if bits == self._candidates else ()
        for depth, saved, group in self._groups(facts, bits):
            if saved:
                for each in self._some(group):
                    price = each.load + (whole - saved * each.trust.share) * each.inverse
                    if (
                        best is None
                        or price < best_price
                        or (price == best_price and each.recent < best.recent)
                    ):
                        best, best_price, best_depth = each, price, depth
                continue
            for each in all_few or self._some(group):
                price = each.load + whole * each.inverse
                if best is None or price < best_price or (price == best_price and each.recent < best.recent):
                    best, best_price, best_depth = each, price, depth
        assert best is not None
        self._picked, self._picked_for, self._known_blocks = best, facts, best_depth
        return best.slot

    def _groups(self, facts: RouteFacts, bits: int) -> Iterable[tuple[int, float, int]]:
        """The candidates `bits`, by how many of the prompt's blocks they should have, with what that saves."""
        blocks = facts.blocks
        found = self._index.depths(blocks, bits) if blocks else None
        if not found:
            return ((0, 0.0, bits),)
        each = _tokens_each(facts)
        groups: list[tuple[int, float, int]] = []
        before = saved = 0.0
        for depth, owners in found:
            bits ^= owners
            cached = min(depth * each, float(facts.prompt_tokens))
            shelf = self._by_bit[owners & -owners].shelf
            others = shelf.prompts - shelf.blocks[blocks[depth - 1]]
            saved += (cached - before) * (COMPUTED_FACTOR - (COMPUTED_FACTOR - 1.0) / (1 + others))
            before = cached
            groups.append((depth, saved, owners))
        if bits:
            groups.append((0, 0.0, bits))
        return groups

    def _some(self, bits: int) -> Sequence[_Replica]:
        """Those of `bits`, or SAMPLED of them, where they are many; others each time."""
        by_bit = self._by_bit
        some: list[_Replica] = []
        if bits.bit_count() <= LOOKED_AT_MAX:
            while bits:
                low = bits & -bits
                bits ^= low
                some.append(by_bit[low])
            return some
        width = bits.bit_length()
        for part in range(SAMPLED):
            # Evenly spaced from a place that moves on by the golden section: all get their turn.
            at = (self._picks * 0x9E3779B1 + part * width // SAMPLED) % width
            beyond = bits >> at
            some.append(by_bit[(beyond & -beyond) << at if beyond else bits & -bits])
        return some

    def why(self, slot: Slot) -> str:
        sent, waiting_tokens = self._told
        return f"{sent.hit_tokens:.0f} prompt tokens cached, {sent.computed_tokens} to compute behind {waiting_tokens}"

    # --- what becomes of it ---------------------------------------------------------------------------

    def on_chosen(self, slot: Slot, facts: RouteFacts, now_s: float) -> None:
        replica = self._replicas.get(slot) or self._replica(slot)
        blocks = facts.blocks
        prompt_tokens = computed = facts.prompt_tokens
        hit_tokens = 0.0
        known_blocks = 0
        if blocks:
            each = _tokens_each(facts)
            if replica is self._picked and facts is self._picked_for:
                known_blocks = self._known_blocks
            elif found := self._index.depths(blocks, replica.shelf.bit):  # chosen as the last resort
                known_blocks = found[0][0]
            if known_blocks:
                hit_tokens = min(known_blocks * each, prompt_tokens)
                computed -= int(hit_tokens * replica.trust.share)
            self._index.learn(replica.shelf, blocks, each)
        sent = _Sent(hit_tokens, computed, known_blocks)
        self._told = (sent, replica.waiting_tokens)
        replica.sent.setdefault(id(facts), []).append(sent)
        replica.waiting_tokens += computed
        if now_s >= self._scaled_until_s:
            self._rescale(now_s)
        replica.recent += computed * self._scale
        load = replica.waiting_tokens + REQUEST_TOKENS * (slot.in_flight + slot.others)
        replica.load = load * replica.inverse

    def on_first_byte(self, slot: Slot, facts: RouteFacts, ttft_s: float, now_s: float) -> None:
        replica = self._replicas.get(slot)
        if replica is None:
            return
        for sent in replica.sent.get(id(facts), ()):
            if sent.waiting:
                self._computed(replica, facts, sent)
                break

    def on_released(self, slot: Slot, facts: RouteFacts, seen: Seen, now_s: float) -> None:
        replica = self._replicas.get(slot)
        if replica is None:
            return
        waiting = replica.sent.get(id(facts))
        if waiting:
            sent = waiting.pop(0)
            if not waiting:
                del replica.sent[id(facts)]
            if sent.waiting:
                self._computed(replica, facts, sent)
            if seen.cached_tokens is not None:
                self._check(replica, facts, sent, seen.cached_tokens)
            elif seen.failed and not seen.answer_began:
                self._index.unlearn(replica.shelf, facts.blocks[sent.known_blocks :])
        replica.weigh()

    def on_load(self, slot: Slot) -> None:
        replica = self._replicas.get(slot)
        if replica is not None:
            replica.weigh()
            if slot.reading is not None:
                replica.trust.on_counters(slot.reading)

    def forget(self, slot: Slot) -> None:
        replica = self._replicas.pop(slot, None)
        if replica is not None:
            del self._by_bit[replica.shelf.bit]
            self._index.remove(replica.shelf)

    def _computed(self, replica: _Replica, facts: RouteFacts, sent: _Sent) -> None:
        """Its prompt waits no more."""
        replica.trust.on_sent(facts.prompt_tokens, sent.hit_tokens)
        sent.waiting = False
        replica.waiting_tokens -= sent.computed_tokens
        replica.weigh()

    def _check(self, replica: _Replica, facts: RouteFacts, sent: _Sent, cached_tokens: int) -> None:
        """What the engine had in its cache, against what was expected."""
        expected = sent.hit_tokens
        replica.trust.on_told(expected, cached_tokens)
        shelf = replica.shelf
        shelf.capacity_tokens = capacity_after(
            shelf.capacity_tokens, expected, cached_tokens, _tokens_each(facts)
        )

    # --- inside ---------------------------------------------------------------------------------------

    def _replica(self, slot: Slot) -> _Replica:
        replica = self._replicas.get(slot)
        if replica is None:
            shelf = self._index.add(self._cache_tokens)
            replica = self._replicas[slot] = self._by_bit[shelf.bit] = _Replica(slot, shelf)
            replica.weigh()
        return replica

    def _rescale(self, now_s: float) -> None:
        """What a token counts in the next second, beside those of earlier: growing, instead of all others decaying."""
        if self._since_s is None:
            self._since_s = now_s
        constants = (now_s - self._since_s) / RECENT_S
        if constants > RESCALE:
            for replica in self._replicas.values():
                replica.recent *= exp(-constants)
            self._since_s, constants = now_s, 0.0
        self._scale = exp(constants)
        self._scaled_until_s = now_s + 1.0


def _tokens_each(facts: RouteFacts) -> float:
    """Tokens of one block: all are of one size, and the last is on average half full."""
    return facts.prompt_tokens / max(len(facts.blocks) - 0.5, 1.0)
