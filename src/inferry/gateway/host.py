"""What an exchange needs of the gateway around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from inferry.core.api_key import ApiKey
from inferry.core.errors import InferryError, NoReadyReplica
from inferry.core.gateway_settings import Gateway as GatewaySettings
from inferry.core.outcome import Outcome
from inferry.gateway.account import Account
from inferry.gateway.admission import Admission
from inferry.gateway.answer import Counts
from inferry.gateway.callers import Callers
from inferry.gateway.edge import Edge
from inferry.gateway.filters.classifier_call import BorrowedReplica, ClassifierPools
from inferry.gateway.filters.large_bodies import FilterThreads
from inferry.gateway.metrics import GatewayMetrics
from inferry.gateway.prompt_truth import PromptChecks
from inferry.gateway.public_names import PublicNames
from inferry.gateway.served import ServedDeployment
from inferry.gateway.upstream import UpstreamPool


class Active(Protocol):
    """A request under way."""

    def check(self, now_s: float) -> None: ...

    def abort(self, error: InferryError) -> None: ...

    def hand_over(self, replica_id: str, because: str) -> None:
        """Go on at another replica, if it is at this one and if that can be."""


class Host(Protocol):
    """One owner: everything here belongs to the event loop's thread."""

    settings: GatewaySettings
    now_s: Callable[[], float]
    wall_s: Callable[[], float]
    pools: dict[str, UpstreamPool]
    active: set[Active]
    """Exchanges add and remove themselves."""
    edge: Edge
    callers: Callers
    admission: Admission
    classifiers: ClassifierPools
    filter_threads: FilterThreads
    prompt_checks: PromptChecks | None
    metrics: GatewayMetrics
    counts: Counts
    """Tokens relayed so far, by the slots that `on_sent` gives."""
    on_replica_failure: Callable[[str, str], None]

    def borrow(self, deployment: str) -> BorrowedReplica | None: ...

    public_names: PublicNames

    def deployment_for(self, model: str, key: ApiKey | None) -> ServedDeployment:
        """One that answers to `model`; raises UnknownModel that names those that `key` may call."""

    def names_for(self, key: ApiKey | None) -> Iterable[str]:
        """The names that this key may know of; None: everybody may know all."""

    def no_replica(self, deployment: ServedDeployment, because: str) -> NoReadyReplica: ...

    def on_sent(self, account: Account, replica_id: str, attempts: int) -> int:
        """The request goes to a replica: note it where a crash of this process finds it. Returns its slot."""

    def on_outcome(self, account: Account, outcome: Outcome) -> None: ...
