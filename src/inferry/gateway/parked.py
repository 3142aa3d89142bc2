"""Requests that wait until the model of their deployment is loaded: those of `load: on_demand`.

One `Parked` per deployment and gateway process. It asks the control process for the model (again each second, so
that nothing is lost with a message), hears how that goes, and lets all go on when a replica serves. Whoever waits
for longer than `load_wait_s` is told so. It does no I/O and reads no clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from inferry.core.errors import ModelNotLoaded, NoReadyReplica, QueueFull

ASK_AGAIN_S = 1.0
RETRY_AFTER_S = 5.0
"""When to come again, where nobody knows better."""


@runtime_checkable
class ParkedRequest(Protocol):
    """One of the two is called, once, unless it left before. It may come back while it is called."""

    def on_loaded(self) -> None:
        """A replica serves."""

    def on_not_loaded(self, error: NoReadyReplica) -> None: ...


@dataclass(frozen=True, slots=True)
class LoadNews:
    """How the load of a deployment's model goes; from the control process."""

    deployment: str
    says: str
    """What it waits for, or why it can't be loaded; one line."""
    refused_for_s: float | None = None
    """It will not be loaded now; worth another try after so long. None: it is on its way."""


def left_file(deployment: str) -> NoReadyReplica:
    """The error for those who wait at a deployment that is removed."""
    return NoReadyReplica(f"'{deployment}' has left the deployment file: it takes no requests any more.")


class Parked:
    """See the module."""

    def __init__(self, deployment: str, on_wanted: Callable[[str], None]) -> None:
        self.wait_max_s: float | None = None
        """None: its model is always loaded, and nobody waits here."""
        self.waiting_max = 0
        self.has_left = False
        """Its deployment is not in the file any more."""
        self._deployment = deployment
        self._on_wanted = on_wanted
        self._since_s: dict[ParkedRequest, float] = {}
        """In order of arrival."""
        self._asked_s = -math.inf
        self._says = "it is not loaded"

    def __len__(self) -> int:
        return len(self._since_s)

    def add(self, request: ParkedRequest, now_s: float) -> NoReadyReplica | QueueFull | None:
        """It waits from now on; or why it can't."""
        if self.has_left:
            return left_file(self._deployment)
        if len(self._since_s) >= self.waiting_max:
            return QueueFull(
                f"The model of '{self._deployment}' is not loaded yet, and {len(self._since_s)} requests wait "
                "for it already.",
                retry_after_s=RETRY_AFTER_S,
            )
        self._since_s[request] = now_s
        self._ask(now_s)
        return None

    def leave(self, request: ParkedRequest) -> None:
        """It waits no more, if it did."""
        self._since_s.pop(request, None)

    def release(self) -> None:
        """A replica serves: all go on, in the order in which they came."""
        self._says = "it is not loaded"
        for request in list(self._since_s):
            if self._take_out(request):
                request.on_loaded()

    def on_news(self, news: LoadNews) -> None:
        self._says = news.says
        if news.refused_for_s is None:
            return
        error = ModelNotLoaded(
            f"The model of '{self._deployment}' can't be loaded now: {news.says}.",
            retry_after_s=news.refused_for_s,
        )
        self._refuse_all(error)

    def close(self) -> None:
        """Its deployment has left the file: nobody waits here any more."""
        self.has_left = True
        self._refuse_all(left_file(self._deployment))

    def tick(self, now_s: float) -> None:
        """Refuse those who have waited too long; call it ten times a second."""
        if not self._since_s or self.wait_max_s is None:
            return
        for request in [
            each for each, since_s in self._since_s.items() if now_s - since_s >= self.wait_max_s
        ]:
            if self._take_out(request):
                request.on_not_loaded(
                    ModelNotLoaded(
                        f"The model of '{self._deployment}' was not loaded within {self.wait_max_s:g} s: "
                        f"{self._says}.",
                        retry_after_s=RETRY_AFTER_S,
                    )
                )
        self._ask(now_s)

    def _refuse_all(self, error: NoReadyReplica) -> None:
        for request in list(self._since_s):
            if self._take_out(request):
                request.on_not_loaded(error)

    def _take_out(self, request: ParkedRequest) -> bool:
        """False: it has left meanwhile."""
        return self._since_s.pop(request, None) is not None

    def _ask(self, now_s: float) -> None:
        if self._since_s and now_s - self._asked_s >= ASK_AGAIN_S:
            self._asked_s = now_s
            self._on_wanted(self._deployment)
