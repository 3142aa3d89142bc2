"""A question to a classifier or a guard model, as data; and what its answer means."""

from __future__ import annotations

from dataclasses import dataclass

from inferry.core.replica import Endpoint
from inferry.gateway.filters.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Check:
    """One HTTP call to make. Exactly one of `endpoint` and `guard` says where."""

    rule: str
    endpoint: Endpoint | None
    """Of the classifier: base_path is its whole path. Headers hold its key."""
    guard: str | None
    """The deployment whose chat route is asked; `model` in the request is put in by CheckCall."""
    timeout_s: float

    def request(self, model: str | None) -> bytes:
        raise NotImplementedError

    def verdict(self, status: int, answer: bytes) -> Verdict:
        """Passed (with a flag), or Blocked; never raises: an unreadable answer is as on_error says."""
        raise NotImplementedError

    def failed(self) -> Verdict:
        """No answer in time: as on_error says."""
        raise NotImplementedError
