"""Any endpoint that speaks OpenAI's API and that someone else runs: assume as little as possible."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from inferry.core.endpoint_urls import split_endpoint
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.replica import Endpoint
from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, ROUTES
from inferry.engines.adapter import EngineMetrics, ExitReading, ProbeReading, Verdict, WarmupRequest
from inferry.engines.continuation import continuation_of

CLASSIC_ROUTES = frozenset(route.path for route in (CHAT, COMPLETIONS, EMBEDDINGS))
"""What Azure has below /openai/deployments/NAME: learn.microsoft.com/azure/ai-foundry/openai/reference."""


class OpenAIAdapter:
    """A RemoteAdapter for one deployment."""

    engine = "openai"
    simulated = False
    metrics_path: str | None = None
    tokenize_field: str | None = None
    continuation = continuation_of(engine)
    warmups: Sequence[WarmupRequest] = ()

    def __init__(self, name: str, deployment: OpenAIDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def routes(self) -> frozenset[str]:
        return CLASSIC_ROUTES if self._deployment.has_classic_paths else frozenset(ROUTES)

    @property
    def probe_path(self) -> str:
        return "/openai/models" if self._deployment.has_classic_paths else "/v1/models"

    @property
    def reports_stream_usage(self) -> bool:
        return self._deployment.ask_usage

    @property
    def served_name(self) -> str:
        return self._deployment.model

    def endpoints(self) -> Sequence[Endpoint]:
        deployment = self._deployment
        version = deployment.api_version
        query = "" if version is None else f"api-version={version}"
        root = (
            f"/openai/deployments/{quote(deployment.model, safe='')}"
            if deployment.has_classic_paths
            else "/v1"
        )
        found: list[Endpoint] = []
        for url in deployment.endpoints:
            tls, host, port, base_path = split_endpoint(url, needs_v1=version is None)
            found.append(Endpoint(host, port, tls, base_path, self._headers(), root, query))
        return found

    def _headers(self) -> tuple[tuple[str, str], ...]:
        deployment = self._deployment
        headers = [(name, value.get_secret_value()) for name, value in deployment.headers.items()]
        if deployment.api_key is not None:
            key = deployment.api_key.get_secret_value()
            if deployment.key_header == "authorization":
                headers.insert(0, ("Authorization", f"Bearer {key}"))
            else:
                headers.insert(0, (deployment.key_header, key))
        return tuple(headers)

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
