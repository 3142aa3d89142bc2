"""An engine that others start and whose own words we know: its adapter, at the endpoints of the file."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.deployment_base import ManagedBase
from inferry.core.endpoint_urls import split_engine_url
from inferry.core.replica import Endpoint
from inferry.engines.adapter import (
    EngineMetrics,
    ExitReading,
    LaunchableAdapter,
    ProbeReading,
    Verdict,
    WarmupRequest,
)
from inferry.engines.continuation import Continuation


class AttachedAdapter:
    """A RemoteAdapter that says what the engine's own adapter says of routes, health, metrics and continuation.

    Not launchable, so whoever asks for that never starts a second engine beside the one that is there.
    """

    def __init__(self, name: str, deployment: ManagedBase, engine: LaunchableAdapter) -> None:
        self._name = name
        self._deployment = deployment
        self._engine = engine

    @property
    def engine(self) -> str:
        return self._engine.engine

    @property
    def simulated(self) -> bool:
        return self._engine.simulated

    @property
    def routes(self) -> frozenset[str]:
        return self._engine.routes

    @property
    def served_name(self) -> str:
        return self._engine.served_name

    @property
    def reports_stream_usage(self) -> bool:
        return self._engine.reports_stream_usage

    @property
    def tokenize_field(self) -> str | None:
        return self._engine.tokenize_field

    @property
    def continuation(self) -> Continuation:
        return self._engine.continuation

    @property
    def probe_path(self) -> str:
        return self._engine.probe_path

    @property
    def metrics_path(self) -> str | None:
        return self._engine.metrics_path

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        return self._engine.warmups

    def endpoints(self) -> Sequence[Endpoint]:
        headers: tuple[tuple[str, str], ...] = ()
        if self._deployment.api_key is not None:
            headers = (("Authorization", f"Bearer {self._deployment.api_key.get_secret_value()}"),)
        found = []
        for url in self._deployment.endpoints or ():
            tls, host, port, base_path = split_engine_url(url)
            found.append(Endpoint(host, port, tls, base_path, headers))
        return found

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        """A key that is refused is for the operator to put right, here; all else is the engine's to say."""
        if status in (401, 403):
            which = "wants a key: set" if self._deployment.api_key is None else "refuses our key: check"
            return ProbeReading(
                Verdict.UNWELL, f"answers {status}, so it {which} deployments.{self._name}.api_key"
            )
        return self._engine.read_probe(status, body)

    def read_metrics(self, page: str) -> EngineMetrics:
        return self._engine.read_metrics(page)

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        raise AssertionError("an engine that others run has no process here")
