"""Ollama: `ollama serve`, which is told everything by its environment, and fetches and loads models over HTTP.

Its server is up long before a model is in memory, so a replica is ready only once the model has been loaded and a
token came out. It has no key and no metrics page: the only thing between it and other users of the machine is that
it listens on loopback. Read from Ollama's source: envconfig/, server/routes.go, middleware/openai.go at 0.33.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace, ContainerNeeds, EngineCommand, LaunchSpec
from inferry.core.replica import Endpoint
from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from inferry.core.server_engines import OllamaDeployment
from inferry.engines.adapter import (
    EngineMetrics,
    ExitReading,
    LaunchContext,
    ProbeReading,
    Verdict,
    WarmupRequest,
)
from inferry.engines.continuation import continuation_of
from inferry.engines.exit_text import exit_text
from inferry.engines.one_token import one_token_completion
from inferry.engines.program import find_program, process_place, version_numbers

NEWEST_VERSION = "0.33.1"
_SINCE = {RESPONSES.path: (0, 13, 3), MESSAGES.path: (0, 14)}
"""Routes that older versions lack, by Ollama's release notes."""

# Variables that follow from the file or from where the replica runs, and the key to use instead.
_MANAGED_ENV = {
    "OLLAMA_HOST": "",
    "OLLAMA_KEEP_ALIVE": "",
    "OLLAMA_MODELS": "models_folder",
    "OLLAMA_NUM_PARALLEL": "parallel",
    "OLLAMA_CONTEXT_LENGTH": "context_tokens",
    "OLLAMA_KV_CACHE_TYPE": "kv_cache_dtype",
    "OLLAMA_FLASH_ATTENTION": "flash_attention",
}


class OllamaAdapter:
    """A CommandAdapter for one deployment."""

    engine = "ollama"
    simulated = False
    reports_stream_usage = True
    tokenize_field: str | None = None
    continuation = continuation_of(engine)
    probe_path = "/api/ps"
    metrics_path: str | None = None

    def __init__(self, name: str, deployment: OllamaDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def version(self) -> str:
        return self._deployment.version or NEWEST_VERSION

    @property
    def served_name(self) -> str:
        return self._deployment.model

    @property
    def routes(self) -> frozenset[str]:
        everywhere = (CHAT.path, COMPLETIONS.path, EMBEDDINGS.path)
        version = version_numbers(self.version)
        return frozenset(everywhere) | {path for path, since in _SINCE.items() if version >= since}

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        """Load it, fetching it first where that is wished and needed; then a token."""
        model, limit_s = self._deployment.model, self._deployment.start_timeout_s
        pull = WarmupRequest("/api/pull", _json(model=model, stream=False), limit_s, f"fetches {model}")
        # Without a prompt, it only loads. The limits are those of the whole start, which ends all of this.
        load = WarmupRequest(
            "/api/generate",
            _json(model=model, keep_alive=-1, stream=False),
            limit_s,
            f"loads {model}",
            if_missing=pull if self._deployment.pull else None,
        )
        return (load, one_token_completion(model))

    def command(self, place: CommandPlace) -> EngineCommand:
        deployment = self._deployment
        for variable in deployment.env:
            key = _MANAGED_ENV.get(variable)
            if key is not None:
                instead = f"write '{key}' in the deployment instead" if key else "Inferry sets it itself"
                raise ConfigError(f"deployments.{self._name}.env: drop '{variable}': {instead}")
        host = f"[{place.host}]" if ":" in place.host else place.host
        # Pinned: requests by /v1 can't say how long the model stays, and after 5 minutes it would go.
        env = {"OLLAMA_HOST": f"{host}:{place.port}", "OLLAMA_KEEP_ALIVE": "-1"}
        if deployment.parallel is not None:
            env["OLLAMA_NUM_PARALLEL"] = str(deployment.parallel)
        if deployment.context_tokens is not None:
            env["OLLAMA_CONTEXT_LENGTH"] = str(deployment.context_tokens)
        if deployment.kv_cache_dtype is not None:
            env["OLLAMA_KV_CACHE_TYPE"] = deployment.kv_cache_dtype
        flash_attention = deployment.flash_attention
        if flash_attention is None and deployment.kv_cache_dtype not in (None, "f16"):
            flash_attention = True  # without it, Ollama leaves the cache as it is and says nothing
        if flash_attention is not None:
            env["OLLAMA_FLASH_ATTENTION"] = "1" if flash_attention else "0"
        if deployment.gpus is not None:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, deployment.gpus)) or "-1"
        return EngineCommand(program="ollama", args=("serve",), env={**deployment.env, **env})

    def container(self) -> ContainerNeeds:
        image = self._deployment.image or f"ollama/ollama:{self.version}"
        return ContainerNeeds(
            image, ("ollama",), gpus=self._deployment.gpu_count, cache_folder="/root/.ollama"
        )

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        deployment = self._deployment
        command = self.command(process_place(context, deployment.model))
        program = find_program(self._name, deployment.binary, command.program, self.engine, environ)
        env = dict(command.env)
        # Only here: a container has a volume for its models.
        if deployment.models_folder is not None:
            env["OLLAMA_MODELS"] = deployment.models_folder
        return LaunchSpec(
            replica_id=context.replica_id,
            argv=(program, *command.args),
            endpoint=Endpoint(context.host, context.port),
            env=env,
        )

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status == 200:
            return ProbeReading(Verdict.READY, "answers")
        return ProbeReading(Verdict.UNWELL, f"{self.probe_path} answers {status}")

    def read_metrics(self, page: str) -> EngineMetrics:
        return EngineMetrics()

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        errors = [line for line in log_tail if line.startswith("Error: ")]
        said = f": {errors[-1].removeprefix('Error: ')}" if errors and code > 0 else ""
        return ExitReading(retryable=True, message=f"{exit_text(code)}{said}")


def _json(**fields: object) -> bytes:
    return json.dumps(fields).encode()
