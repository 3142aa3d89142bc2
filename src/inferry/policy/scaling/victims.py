"""Which replicas leave first, when there shall be fewer: those with the least to lose. The fleet and the simulator ask here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inferry.core.replica import ReplicaState

_S = ReplicaState
_RANK: dict[ReplicaState, int] = {
    _S.FAILED: 0,
    _S.PENDING: 1,
    _S.STARTING: 2,
    _S.WARMING: 3,
    _S.SUSPECT: 4,
    _S.READY: 5,
}
"""What serves nobody has nothing to lose, and the less the further it is from serving. Those that leave already are
no candidates."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that may leave."""

    id: str
    state: ReplicaState
    in_flight: int = 0
    """Requests that it holds."""
    served_s: float = 0.0
    """For how long it has served; the youngest has the least in its cache."""
    standby: bool = False
    cached_tokens: int | None = None
    """What its prefix cache holds; None where it does not tell."""


def least_to_lose(candidates: Iterable[Candidate]) -> list[str]:
    """Their ids, the first to leave first; `candidates` in order of their first start. Standby ones are last (they are
    counted apart, and warm) if they have not failed; then by state, by requests under way, by what is cached where all
    tell that, and who has served for the shortest time; of equals, the newest leaves."""
    rows = list(candidates)[::-1]
    all_tell = all(each.cached_tokens is not None for each in rows)

    def loss(each: Candidate) -> tuple[bool, int, int, int, float]:
        cached = each.cached_tokens if all_tell and each.cached_tokens is not None else 0
        is_reserve = each.standby and each.state is not _S.FAILED
        return is_reserve, _RANK.get(each.state, -1), each.in_flight, cached, each.served_s

    return [each.id for each in sorted(rows, key=loss)]
