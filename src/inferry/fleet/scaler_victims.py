"""Who leaves when there are to be fewer: members as the policy sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inferry.core.replica import ReplicaState
from inferry.fleet.member import Member

_SERVES = (ReplicaState.READY, ReplicaState.SUSPECT)


def by_loss(
    members: Sequence[Member], held: Callable[[str], int], served_s: Callable[[str], float]
) -> Sequence[Member]:
    """Whoever has the least to lose first. `held`: requests there; `served_s`: for how long it has served."""
    newest_first = list(reversed(members))
    return sorted(
        newest_first,
        key=lambda each: (each.view.state in _SERVES, held(each.id), served_s(each.id)),
    )
