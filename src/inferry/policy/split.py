"""Which deployment behind a public name takes this request? In exact shares, or by who asks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

_HASH_BITS = 53
"""As many as a float between 0 and 1 can tell apart."""


class Shares:
    """Hands out names in turn, so that each gets its share of every stretch of requests, not only of all.

    R. Tijdeman's solution of the chairman assignment problem (Discrete Mathematics 32, 1980, 323-330): after n
    requests, none of k names is further from n times its share than 1 - 1/(2k - 2) requests. With weights 90 and 10,
    any ten requests in a row are nine and one.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        """`weights`: 0 or more each, and one of them more than 0."""
        common = math.gcd(*weights.values())
        assert common > 0, "a weight above 0"
        self._weights = {name: weight // common for name, weight in weights.items() if weight}
        self._sum = sum(self._weights.values())
        self._factor = max(1, 2 * len(self._weights) - 2)
        self._due = dict.fromkeys(self._weights, 0)
        """What each is short of, in units of one request / (sum * factor)."""

    def next(self) -> str:
        """The name whose turn it is."""
        due, whole = self._due, self._sum * self._factor
        best, best_wait = "", math.inf
        for name, weight in self._weights.items():
            due[name] += weight * self._factor
            if due[name] < self._sum:  # it would get too far ahead
                continue
            wait = (whole - self._sum - due[name]) / weight
            if wait < best_wait:  # of equals, the first
                best, best_wait = name, wait
        due[best] -= whole
        return best


def choose_sticky(weights: Mapping[str, int], salt: str, caller: str) -> str:
    """The name that `caller` always gets. Callers are spread by weight; `salt` keeps several splits apart.

    Weighted rendezvous hashing (C. Schindelhauer, G. Schomaker, "Weighted distributed hash tables", SPAA 2005): each
    name draws -weight / ln(u) with a u that is a hash of caller and name, and the highest wins. A weight that grows
    draws callers to its name, and moves none between the others. All gateway processes choose alike.
    """
    assert any(weights.values()), "a weight above 0"
    return max(
        (name for name in weights if weights[name]), key=lambda name: _draw(weights[name], salt, caller, name)
    )


def _draw(weight: int, *texts: str) -> float:
    # Lengths first: "a" and "bc" must not be "ab" and "c".
    digest = hashlib.blake2b(digest_size=8)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
    number = int.from_bytes(digest.digest()) >> (64 - _HASH_BITS)
    return -weight / math.log((number + 0.5) / 2**_HASH_BITS)
