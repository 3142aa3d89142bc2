"""A deployment that gets copies of a name's requests: which ones, and how many at the same time."""

from __future__ import annotations

from inferry.core.public_names import PERCENT_UNITS, Shadow
from inferry.gateway.served import ServedDeployment
from inferry.policy.split import Shares

_COPY = "copy"


class ShadowTarget:
    """One entry of `shadow:`, live. It outlives changes of its spec. Owned by the gateway's event loop."""

    __slots__ = ("_concurrent_max", "_shares", "deployment", "under_way")

    def __init__(self, spec: Shadow, deployment: ServedDeployment) -> None:
        self.deployment = deployment
        self.under_way = 0
        """Copies that are not over yet."""
        self.configure(spec)

    def configure(self, spec: Shadow) -> None:
        """Copies under way stay counted."""
        self._concurrent_max = spec.concurrent_max
        self._shares = Shares({_COPY: spec.units, "none": PERCENT_UNITS - spec.units})

    def is_next(self) -> bool:
        """Whether this request, of all that were let in, is one to copy."""
        return self._shares.next() == _COPY

    def on_over(self) -> None:
        """A copy has come to its end."""
        self.under_way -= 1

    @property
    def is_full(self) -> bool:
        return self.under_way >= self._concurrent_max
