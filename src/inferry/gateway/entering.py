"""The part of an exchange that goes into a deployment; and into the next one behind the same name, if that one fails.

Only while the client has nothing: another deployment may be another model, which can't go on with an answer.
"""

from __future__ import annotations

from abc import abstractmethod

from inferry.core.errors import InferryError
from inferry.gateway.entry import Entry
from inferry.gateway.served import ServedDeployment
from inferry.gateway.trying import Trying


class Entering(Trying):
    """One deployment after the other: each with its own filters, limits and queue."""

    __slots__ = ()

    @abstractmethod
    def on_entered(self) -> None: ...

    @abstractmethod
    def on_refused(self, error: InferryError) -> None: ...

    def _enter(self, deployment: ServedDeployment) -> None:
        caller, request = self.caller, self.request
        assert caller is not None
        assert request is not None
        findings = None if self.entry is None else self.entry.findings
        self.deployment = deployment
        entry = self.entry = Entry(self, self._gateway, caller, deployment, request)
        entry.findings = findings
        entry.begin()

    def _go_elsewhere(self, error: InferryError) -> bool:
        """Whether another deployment takes the request that ends in `error` here: then it has it already."""
        course, left = self.course, self.deployment
        if course is None or left is None or self.relaying or self._ended:
            return False
        other = course.next_after(left, error)
        if other is None:
            return False
        self._gateway.metrics.count_fallback(course.name, left.name, other.name)
        if self.entry is not None and self.entry.admitted is not None:
            left.demand.observe_leaving()
        self._let_go()
        if self.attempts:  # for its first replica there, nobody else does
            other.retry_budget.begin(self._gateway.now_s())
        self._enter(other)
        return True

    def _let_go(self) -> None:
        """Of all that it holds at its deployment, as if it had never been there."""
        self._leave()
        self._release_slot()
        self._release_out()
        if self._waits_since_s is not None:
            self._stop_waiting()
        self._whole_body.clear()
        self._head = self.answer = self._ids = None
        self._stale_retried = self._lost_replica = False
        if self.entry is not None:
            self.entry.withdraw()
