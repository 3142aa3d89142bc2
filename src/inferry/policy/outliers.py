"""Which replicas are far worse than their peers, and shall be set aside for a while? Pure.

It finds what no probe and no breaker sees: a replica that fails one request in four, or that is ten times as
slow as the others on the same work.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from inferry.core.health_settings import Outliers as Settings
from inferry.policy.recent_requests import RequestCounts

TTFT_OVER_MIN_S = 1.0
"""A first token that is later by less than this is no reason, however fast the others are."""
FULLER_MAX = 1.5
"""A replica that holds so many times its peers' requests is slow because it is full: that is routing's to mend."""


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """One replica of a deployment that takes requests."""

    replica_id: str
    recent: RequestCounts
    in_flight: int
    aside: bool
    """It is set aside already, or its breaker is not closed."""


@dataclass(frozen=True, slots=True)
class Outlier:
    replica_id: str
    because: str


def find_outliers(peers: Sequence[PeerRecord], settings: Settings) -> list[Outlier]:
    """Those to set aside now, the worst kind first: never more than share_max of all are aside together, and never
    the last one that is not."""
    aside = sum(peer.aside for peer in peers)
    room = min(int(settings.share_max * len(peers)), len(peers) - 1) - aside
    if room <= 0:
        return []
    known = [peer for peer in peers if not peer.aside and peer.recent.requests >= settings.requests_min]
    found = _failing(known, settings)
    names = {each.replica_id for each in found}
    found += [each for each in _slow(known, settings) if each.replica_id not in names]
    return found[:room]


def aside_s(times: int, settings: Settings) -> float:
    """For how long, the `times`th time in a row (from 1). With the defaults 10, 20, 40 s, and 300 at most."""
    return min(settings.aside_s * 2.0 ** min(times - 1, 60), settings.aside_max_s)


def _failing(known: Sequence[PeerRecord], settings: Settings) -> list[Outlier]:
    shares = [peer.recent.failures / peer.recent.requests for peer in known]
    if len(known) < 2 or not any(shares):
        return []
    ordered = sorted(shares)
    found = []
    for peer, mine in zip(known, shares, strict=True):
        theirs = _median_without(ordered, mine)
        if mine - theirs > settings.failures_over:
            because = f"{mine:.0%} of its requests fail, and {theirs:.0%} of its peers'"
            found.append((mine, Outlier(peer.replica_id, because)))
    return [outlier for _, outlier in sorted(found, key=lambda each: -each[0])]


def _slow(known: Sequence[PeerRecord], settings: Settings) -> list[Outlier]:
    timed = [peer for peer in known if peer.recent.first_bytes >= settings.requests_min]
    if len(timed) < 2:
        return []
    ordered_s = sorted(map(_ttft_s, timed))
    held = sorted(peer.in_flight for peer in timed)
    found = []
    for peer in timed:
        mine_s = _ttft_s(peer)
        theirs_s = _median_without(ordered_s, mine_s)
        if mine_s <= max(settings.ttft_factor * theirs_s, theirs_s + TTFT_OVER_MIN_S):
            continue
        if peer.in_flight <= FULLER_MAX * _median_without(held, peer.in_flight) + 1:
            because = (
                f"its first tokens take {mine_s:.2f} s, and its peers' {theirs_s:.2f} s, at no more load"
            )
            found.append((mine_s, Outlier(peer.replica_id, because)))
    return [outlier for _, outlier in sorted(found, key=lambda each: -each[0])]


def _median_without(ordered: Sequence[float], value: float) -> float:
    """Of all but one that is `value`; of two or more. Sorted once for all peers: a thousand of them are looked at twice
    a second."""
    place = bisect_left(ordered, value)
    high = (len(ordered) - 1) // 2
    low = high if len(ordered) % 2 == 0 else high - 1
    return (ordered[low + (low >= place)] + ordered[high + (high >= place)]) / 2


def _ttft_s(peer: PeerRecord) -> float:
    return peer.recent.ttft_sum_s / peer.recent.first_bytes
