"""Did the first start come to anything?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from inferry.core.errors import StartFailed
from inferry.core.replica import ReplicaState, ReplicaView
from inferry.gateway.served import ServedSpec

_USABLE = (ReplicaState.READY, ReplicaState.SUSPECT)


def failed_start(
    served: Iterable[ServedSpec], views: Iterable[ReplicaView], failures: Sequence[str]
) -> StartFailed | None:
    """Not a single replica of some deployment of ours came up; `failures` say why."""
    alive = {view.deployment for view in views if view.state in _USABLE}
    dead = {
        spec.name
        for spec in served
        if spec.engine != "openai" and spec.load_wait_s is None and spec.name not in alive
    }
    return StartFailed("\n".join(failures)) if dead and failures else None
