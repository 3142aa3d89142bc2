"""All filters of one deployment, compiled once; what the exchange asks."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.filter_settings import Filter
from inferry.core.request import Route
from inferry.gateway.filters.external_check import Check
from inferry.gateway.filters.stream_filter import StreamFilter
from inferry.gateway.filters.verdict import Verdict


class FilterSet:
    """Immutable; one per deployment. Build it anew when the file changes: running requests keep the old one."""

    def __init__(self, settings: Sequence[Filter]) -> None:
        """`settings`: those of the gateway, then those of the deployment.

        Raises ConfigError that names the filter, what is wrong with it and the way out.
        """
        raise NotImplementedError

    @property
    def hold_back_chars_max(self) -> int:
        """No stream ever holds back more characters than this, per choice and field."""
        raise NotImplementedError

    def input(self, route: Route, body: bytes, tenant: str, key_id: str | None) -> Verdict:
        """The request's verdict."""
        raise NotImplementedError

    def whole(self, route: Route, body: bytes, tenant: str, key_id: str | None) -> Verdict:
        """The verdict on the body of an answer that is not streamed."""
        raise NotImplementedError

    def stream(self, route: Route, tenant: str, key_id: str | None) -> StreamFilter | None:
        """A filter for one streamed answer; None when no rule looks at it: relay as ever."""
        raise NotImplementedError

    def pending_input(self, route: Route, body: bytes, tenant: str, key_id: str | None) -> Sequence[Check]:
        """Questions to ask of others before the request goes on; empty nearly always."""
        raise NotImplementedError

    def pending_output(self, route: Route, body: bytes, tenant: str, key_id: str | None) -> Sequence[Check]:
        """The same for the body of an answer that is not streamed."""
        raise NotImplementedError
