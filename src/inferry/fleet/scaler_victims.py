"""Who leaves when there are to be fewer: members as the policy sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inferry.fleet.member import Member
from inferry.policy.scaling.victims import Candidate, least_to_lose


def by_loss(
    members: Sequence[Member], held: Callable[[str], int], served_s: Callable[[str], float]
) -> Sequence[Member]:
    """Whoever has the least to lose first. `members`: in order of their start; `held`: requests there; `served_s`: for how
    long it has served."""
    by_id = {member.id: member for member in members}
    order = least_to_lose(
        Candidate(
            member.id,
            member.view.state,
            in_flight=held(member.id),
            served_s=served_s(member.id),
            standby=member.view.standby,
        )
        for member in members
    )
    return [by_id[each] for each in order]


def by_held(held: Callable[[str], int]) -> Callable[[Sequence[Member]], Sequence[Member]]:
    """The same where nobody counts for how long they served: of equals, the newest."""
    return lambda members: by_loss(members, held, lambda replica_id: 0.0)
