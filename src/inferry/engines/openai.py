"""Any endpoint that speaks OpenAI's API and that someone else runs: assume as little as possible."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.core.remote_engines import OpenAIDeployment, split_endpoint
from inferry.core.replica import Endpoint
from inferry.core.request import ROUTES
from inferry.engines.adapter import EngineMetrics, ExitReading, ProbeReading, Verdict, WarmupRequest


class OpenAIAdapter:
    """A RemoteAdapter for one deployment."""

    engine = "openai"
    simulated = False
    routes = frozenset(ROUTES)
    probe_path = "/v1/models"
    metrics_path: str | None = None
    warmups: Sequence[WarmupRequest] = ()

    def __init__(self, name: str, deployment: OpenAIDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def reports_stream_usage(self) -> bool:
        return self._deployment.ask_usage

    @property
    def served_name(self) -> str:
        return self._deployment.model

    def endpoints(self) -> Sequence[Endpoint]:
        key = self._deployment.api_key
        headers = () if key is None else (("Authorization", f"Bearer {key.get_secret_value()}"),)
        found: list[Endpoint] = []
        for url in self._deployment.endpoints:
            tls, host, port, base_path = split_endpoint(url)
            found.append(Endpoint(host, port, tls, base_path, headers))
        return found

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status in (401, 403):
            which = "wants a key: set" if self._deployment.api_key is None else "refuses our key: check"
            return ProbeReading(
                Verdict.UNWELL, f"answers {status}, so it {which} deployments.{self._name}.api_key"
            )
        if status in (502, 503, 504):
            return ProbeReading(
                Verdict.UNWELL, f"answers {status}: whatever runs behind it is down or loading"
            )
        # Many servers lack /v1/models (404, 405); that anyone answers is all there is to learn.
        return ProbeReading(Verdict.READY, "answers" if status == 200 else f"answers ({status})")

    def read_metrics(self, page: str) -> EngineMetrics:
        return EngineMetrics()

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        raise AssertionError("an engine that others run has no process here")
