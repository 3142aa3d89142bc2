"""llama.cpp: embedded (`xllamacpp`, one child process per replica), or a `llama-server` of the operator's."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Mapping, Sequence

from inferry.core.errors import ConfigError
from inferry.core.launch import LaunchSpec
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.replica import Endpoint
from inferry.core.request import CHAT, COMPLETIONS, COUNT_TOKENS, MESSAGES, RESPONSES, TOKENIZE
from inferry.engines.adapter import (
    EngineMetrics,
    ExitReading,
    LaunchContext,
    ProbeReading,
    Verdict,
    WarmupRequest,
)
from inferry.engines.exit_text import CONFIG_EXIT_CODE, exit_text, last_words
from inferry.engines.one_token import one_token_completion
from inferry.engines.prometheus_text import sum_by_name, whole

HTTP_THREADS_MIN = 256
"""llama.cpp gives each running or queued request a thread of its HTTP server, and its default is parallel + 4.
Measured with 30 streams on 2 slots: GET /health then waits 8.4 s for a thread, and a busy replica looks dead."""

# Flags of llama-server that follow from the file or from where the replica runs, and the key to use instead.
_MANAGED_FLAGS = {
    "-m": "model",
    "--model": "model",
    "--host": "",
    "--port": "",
    "--api-key": "",
    "--api-key-file": "",
    "-a": "",
    "--alias": "",
    "--metrics": "",
    "-c": "context_tokens",
    "--ctx-size": "context_tokens",
    "-np": "parallel",
    "--parallel": "parallel",
    "-t": "threads",
    "--threads": "threads",
    "-ngl": "gpu_layers",
    "--gpu-layers": "gpu_layers",
    "--n-gpu-layers": "gpu_layers",
}


class LlamaCppAdapter:
    """A LaunchableAdapter for one deployment."""

    engine = "llamacpp"
    simulated = False
    # Embeddings and rerank are left out: llama.cpp answers 501 unless it is started for nothing else.
    routes = frozenset(
        route.path for route in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, COUNT_TOKENS, TOKENIZE)
    )
    reports_stream_usage = True
    probe_path = "/health"
    metrics_path: str | None = "/metrics"

    def __init__(self, name: str, deployment: LlamaCppDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def served_name(self) -> str:
        return self._name

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        return (one_token_completion(self._name),)

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        if context.model_path is None:
            raise ConfigError(f"deployments.{self._name}: llama.cpp needs a model file")
        binary = self._deployment.binary
        argv = self._embedded(context) if binary is None else self._own_binary(binary, context, environ)
        secret_name = "INFERRY_ENGINE_KEY" if binary is None else "LLAMA_API_KEY"
        return LaunchSpec(
            replica_id=context.replica_id,
            argv=argv,
            endpoint=Endpoint(
                context.host, context.port, headers=(("Authorization", f"Bearer {context.secret}"),)
            ),
            env={secret_name: context.secret},
        )

    def _embedded(self, context: LaunchContext) -> tuple[str, ...]:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError(
                f"deployments.{self._name}: the embedded llama.cpp is not installed. "
                "Install it with: pip install 'inferry[local]' - or name a llama-server in 'binary'."
            )
        # -P: the working directory must not shadow modules. (-I would also cut off user site-packages.)
        argv = [sys.executable, "-P", "-m", "inferry.engines.llamacpp_child"]
        argv += ["--model", str(context.model_path), "--host", context.host, "--port", str(context.port)]
        argv += ["--alias", context.served_name, "--context-tokens", str(self._deployment.context_tokens)]
        argv += ["--parallel", str(self._deployment.parallel), "--threads", str(context.threads)]
        argv += ["--http-threads", str(self._http_threads)]
        if self._deployment.gpu_layers is not None:
            argv += ["--gpu-layers", str(self._deployment.gpu_layers)]
        return tuple(argv)

    def _own_binary(self, binary: str, context: LaunchContext, environ: Mapping[str, str]) -> tuple[str, ...]:
        program = shutil.which(binary, path=environ.get("PATH"))
        if program is None:
            raise ConfigError(
                f"deployments.{self._name}.binary: '{binary}' is not a program that can be run here. "
                "Give its full path, or leave 'binary' out to use the embedded llama.cpp."
            )
        for argument in self._deployment.extra_args:
            key = _MANAGED_FLAGS.get(argument.partition("=")[0])
            if key is not None:
                instead = f"write '{key}' in the deployment instead" if key else "Inferry sets it itself"
                raise ConfigError(f"deployments.{self._name}.extra_args: drop '{argument}': {instead}")
        # Host and port always: llama-server's default port has been moving (8080, then 9931).
        argv = [program, "--model", str(context.model_path), "--host", context.host]
        argv += ["--port", str(context.port), "--alias", context.served_name, "--metrics"]
        # llama.cpp shares the context out over its slots; the file counts per request.
        argv += ["--ctx-size", str(self._deployment.context_tokens * self._deployment.parallel)]
        argv += ["--parallel", str(self._deployment.parallel), "--threads", str(context.threads)]
        argv += ["--threads-http", str(self._http_threads)]
        if self._deployment.gpu_layers is not None:
            argv += ["--n-gpu-layers", str(self._deployment.gpu_layers)]
        return (*argv, *self._deployment.extra_args)

    @property
    def _http_threads(self) -> int:
        return max(HTTP_THREADS_MIN, 4 * self._deployment.parallel)

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status == 200:
            return ProbeReading(Verdict.READY, "answers")
        if status == 503:
            return ProbeReading(Verdict.LOADING, "is loading the model")
        return ProbeReading(Verdict.UNWELL, f"its health page answers {status}")

    def read_metrics(self, page: str) -> EngineMetrics:
        sums = sum_by_name(page)
        computed = whole(sums, "llamacpp:prompt_tokens_total")
        cached = whole(sums, "llamacpp:prompt_tokens_cached_total")  # builds before 2026 don't count these
        return EngineMetrics(
            running=whole(sums, "llamacpp:requests_processing"),
            waiting=whole(sums, "llamacpp:requests_deferred"),
            tokens_generated=whole(sums, "llamacpp:tokens_predicted_total"),
            tokens_prompt=None if computed is None or cached is None else computed + cached,
        )

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        words = last_words(list(log_tail)) if self._deployment.binary is None else None
        message = exit_text(code) if words is None or code <= 0 else words
        return ExitReading(retryable=code != CONFIG_EXIT_CODE, message=message)
