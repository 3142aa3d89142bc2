"""llama.cpp: embedded (`xllamacpp`, one child process per replica), or a `llama-server` of the operator's."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace, ContainerNeeds, EngineCommand, LaunchSpec
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
from inferry.engines.continuation import continuation_of
from inferry.engines.exit_text import CONFIG_EXIT_CODE, exit_text, last_words
from inferry.engines.flag_lint import lint
from inferry.engines.flag_table import table_for
from inferry.engines.one_token import one_token_completion
from inferry.engines.program import process_place, process_spec
from inferry.engines.prometheus_text import sum_by_name, whole

HTTP_THREADS_MIN = 256
"""llama.cpp gives each running or queued request a thread of its HTTP server, and its default is parallel + 4.
Measured with 30 streams on 2 slots: GET /health then waits 8.4 s for a thread, and a busy replica looks dead."""

NEWEST_BUILD = "b10481"
"""The next after that of the table of flags whose image is published: not every build has one."""
_IMAGE = "ghcr.io/ggml-org/llama.cpp"

# Flags of llama-server that follow from the file or from where the replica runs, and the key to use instead.
_MANAGED_FLAGS = {
    "--model": "model",
    "--host": "",
    "--port": "",
    "--api-key": "",
    "--api-key-file": "",
    "--api-prefix": "",
    "--ssl-key-file": "",
    "--ssl-cert-file": "",
    "--alias": "",
    "--metrics": "",
    "--ctx-size": "context_tokens",
    "--parallel": "parallel",
    "--threads": "threads",
    "--gpu-layers": "gpu_layers",
}
_USAGE_ERROR = re.compile(r"error: invalid argument: .*|error while handling argument .*")
_LOGGED_ERROR = re.compile(r"[\d.]+ E (?P<what>.*)")
"""`0.00.003.118 E srv  start: couldn't bind HTTP server socket, ...`, as builds of 2026 write it."""


class LlamaCppAdapter:
    """A CommandAdapter for one deployment."""

    engine = "llamacpp"
    simulated = False
    # Embeddings and rerank are left out: llama.cpp answers 501 unless it is started for nothing else.
    routes = frozenset(
        route.path for route in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, COUNT_TOKENS, TOKENIZE)
    )
    reports_stream_usage = True
    tokenize_field: str | None = "content"
    continuation = continuation_of(engine)
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

    @property
    def version(self) -> str:
        return self._deployment.version or NEWEST_BUILD

    def command(self, place: CommandPlace) -> EngineCommand:
        """That of a `llama-server`: containers and pods run it also where processes here are embedded ones."""
        deployment = self._deployment
        self._check_extra_args()
        # Host and port always: llama-server's default port has been moving (8080, then 9931).
        args = ["--model", place.model, "--host", place.host, "--port", str(place.port)]
        args += ["--alias", place.served_name, "--metrics"]
        # llama.cpp shares the context out over its slots; the file counts per request.
        args += ["--ctx-size", str(deployment.context_tokens * deployment.parallel)]
        args += ["--parallel", str(deployment.parallel), "--threads", str(place.threads)]
        args += ["--threads-http", str(self._http_threads)]
        if deployment.gpu_layers is not None:
            args += ["--n-gpu-layers", str(deployment.gpu_layers)]
        args += deployment.extra_args
        return EngineCommand("llama-server", tuple(args), deployment.env, secret_env=("LLAMA_API_KEY",))

    def container(self) -> ContainerNeeds:
        deployment = self._deployment
        with_gpu = bool(deployment.gpu_layers)
        kind = "server-cuda" if with_gpu else "server"
        return ContainerNeeds(
            image=deployment.image or f"{_IMAGE}:{kind}-{self.version}",
            entrypoint=("/app/llama-server",),
            gpus=1 if with_gpu else 0,
        )

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        if context.model_path is None:
            raise ConfigError(f"deployments.{self._name}: llama.cpp needs a model file")
        binary = self._deployment.binary
        if binary is not None:
            command = self.command(process_place(context, str(context.model_path)))
            return process_spec(command, context, self._program(binary, environ))
        return LaunchSpec(
            replica_id=context.replica_id,
            argv=self._embedded(context),
            endpoint=Endpoint(
                context.host, context.port, headers=(("Authorization", f"Bearer {context.secret}"),)
            ),
            env={"INFERRY_ENGINE_KEY": context.secret},
        )

    def _program(self, binary: str, environ: Mapping[str, str]) -> str:
        found = shutil.which(binary, path=environ.get("PATH"))
        if found is None:
            raise ConfigError(
                f"deployments.{self._name}.binary: '{binary}' is not a program that can be run here. "
                "Give its full path, or leave 'binary' out to use the embedded llama.cpp."
            )
        return str(Path(found).absolute())

    def _check_extra_args(self) -> None:
        where, args = f"deployments.{self._name}.extra_args", self._deployment.extra_args
        table = table_for(
            self.engine, self._deployment.version and self._deployment.version.removeprefix("b")
        )
        lint(where, args, table, _MANAGED_FLAGS)
        for word in args:
            flag, equals, value = word.partition("=")
            if equals and table.known(flag) in table.flags:
                raise ConfigError(
                    f"{where}: llama-server takes a value as a word of its own: '{flag}', '{value}'"
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
        if self._deployment.binary is not None:
            return _read_server_exit(code, log_tail)
        words = last_words(list(log_tail))
        message = exit_text(code) if words is None or code <= 0 else words
        return ExitReading(retryable=code != CONFIG_EXIT_CODE, message=message)


def _read_server_exit(code: int, log_tail: Sequence[str]) -> ExitReading:
    """Its first complaint says what went wrong; those that follow only what it led to."""
    if code > 0:
        for line in log_tail:
            if usage := _USAGE_ERROR.search(line):
                return ExitReading(retryable=False, message=f"{exit_text(code)}: {usage[0]}")
        for line in log_tail:
            if logged := _LOGGED_ERROR.match(line):
                return ExitReading(retryable=True, message=f"{exit_text(code)}: {logged['what']}")
    return ExitReading(retryable=True, message=exit_text(code))
