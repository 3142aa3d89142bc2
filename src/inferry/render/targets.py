"""Every target of `inferry render`: its name, what it writes, and the function that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inferry.render.shipment import Files, Shipment


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to render. `render` raises ConfigError for what this target can't do with the file."""

    name: str
    says: str
    render: Callable[[Shipment], Files]


TARGETS: tuple[Target, ...] = ()
