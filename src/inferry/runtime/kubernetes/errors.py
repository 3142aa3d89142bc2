"""What can go wrong between us and an API server: it says no, or it says nothing."""

from __future__ import annotations

from inferry.core.errors import ConfigError


class ApiRefused(ConfigError):
    """The API server answered, and the answer is no: somebody must change a Role, a name or an object."""

    code = "kubernetes_refused"

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.http_status = status
        self.reason = reason
        """One word of the API's: `NotFound`, `Conflict`, `Forbidden`."""


class ApiAway(ConfigError):
    """Nobody answered, or not as an API server does: try again later; what runs goes on running."""

    code = "kubernetes_away"
    retryable = True
