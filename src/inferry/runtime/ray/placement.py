"""On which nodes the next replica of a deployment should be, the best ones first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Placement = Literal["spread", "strict_spread", "pack"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Nodes, by their ids."""

    only_on: tuple[str, ...] = ()
    """One of these; empty: any."""
    not_on: tuple[str, ...] = ()


def choices(placement: Placement, here: Mapping[str, int]) -> list[Choice]:
    """At least one; each is tried when there is no room by those before it. `here`: how many replicas of the deployment
    a node has; nodes with none need not be named.

    spread         a node with none, else one of those with the fewest, else any
    strict_spread  a node with none
    pack           the node with the most, else one that has any, else any
    """
    taken = {node: count for node, count in here.items() if count > 0}
    if not taken:
        return [Choice()]
    every = tuple(sorted(taken))
    if placement == "strict_spread":
        return [Choice(not_on=every)]
    if placement == "spread":
        above_fewest = tuple(node for node in every if taken[node] > min(taken.values()))
        found = [Choice(not_on=every), Choice(not_on=above_fewest), Choice()]
    else:
        most = tuple(node for node in every if taken[node] == max(taken.values()))
        found = [Choice(only_on=most), Choice(only_on=every), Choice()]
    return list(dict.fromkeys(found))
