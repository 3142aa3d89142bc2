"""The way of one request through the deployments behind a public name: the chosen one, then its fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inferry.core.errors import InferryError
from inferry.core.request import InferenceRequest
from inferry.gateway.edge import Arrival
from inferry.gateway.served import ServedDeployment

SendCopies = Callable[[InferenceRequest, Arrival], None]


class Course:
    """Made for one request; plain deployments have none."""

    __slots__ = ("_fallbacks", "_left_behind", "_send_copies", "name", "peers")

    def __init__(
        self,
        name: str,
        fallbacks: Sequence[ServedDeployment],
        send_copies: SendCopies | None = None,
        peers: Sequence[ServedDeployment] = (),
    ) -> None:
        """`fallbacks`: those after the chosen one. `peers`: those that serve the same model."""
        self.name = name
        self.peers = peers
        self._fallbacks = list(fallbacks)
        self._left_behind: list[tuple[str, str]] = []
        self._send_copies = send_copies

    def on_entered(self, request: InferenceRequest, arrival: Arrival) -> None:
        """A deployment has let the request in: copies go out, once."""
        send_copies, self._send_copies = self._send_copies, None
        if send_copies is not None:
            send_copies(request, arrival)

    def next_after(self, deployment: ServedDeployment, error: InferryError) -> ServedDeployment | None:
        """Who takes the request now that `deployment` ended in `error`; None: nobody, the client gets the error."""
        if not self.goes_on or not error.elsewhere:
            return None
        self._left_behind.append((deployment.name, error.code))
        return self._fallbacks.pop(0)

    @property
    def goes_on(self) -> bool:
        """Whether there is a fallback left."""
        return bool(self._fallbacks)

    @property
    def upcoming(self) -> ServedDeployment | None:
        """The fallback that is next; None: there is none left."""
        return self._fallbacks[0] if self._fallbacks else None

    def header_lines(self, deployment: ServedDeployment) -> bytes:
        """Which deployment answers; where others should have before, which, and why they did not."""
        lines = f"x-inferry-deployment: {deployment.name}\r\n"
        if self._left_behind:
            told = ", ".join(f"{name} ({code})" for name, code in self._left_behind)
            lines += f"x-inferry-fallback: {told}\r\n"
        return lines.encode("ascii")
