"""SGLang: `sglang serve`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from inferry.core.errors import ConfigError
from inferry.core.launch import KEY_MARK, CommandPlace, ContainerNeeds, EngineCommand, LaunchSpec
from inferry.core.request import CHAT, COMPLETIONS, COUNT_TOKENS, MESSAGES, RESPONSES, TOKENIZE
from inferry.core.server_engines import SglangDeployment
from inferry.engines.adapter import (
    EngineMetrics,
    ExitReading,
    LaunchContext,
    ProbeReading,
    Verdict,
    WarmupRequest,
)
from inferry.engines.continuation import continuation_of
from inferry.engines.exit_cause import USAGE_EXIT_CODE, cause_in, exit_with_cause
from inferry.engines.exit_text import exit_text
from inferry.engines.flag_lint import lint
from inferry.engines.flag_table import table_for
from inferry.engines.gpus import visible_gpus
from inferry.engines.one_token import one_token_completion
from inferry.engines.program import checked_version, find_program, process_place, process_spec
from inferry.engines.prometheus_text import peak, samples, whole
from inferry.engines.sglang_flags import MANAGED_FLAGS, SPECULATIVE_FLAGS, deployment_flags

PROGRAM = "sglang"
NEWEST_VERSION = "0.5.23"
CONFIG_FILE = "sglang.yaml"

# SGLang takes its key from its command line, which every user of the machine can read, or from its file of
# flags. It spells each key of that file as a flag: hence the dash.
_KEY_IN_CONFIG = f'api-key: "{KEY_MARK}"\n'

LOGGING_FILE = "sglang-logging.json"

# At its usual level, SGLang logs all its arguments when it starts, with the key: only that logger is quieter.
_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "[%(asctime)s %(processName)s] %(message)s"}},
    "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["lines"]},
    "loggers": {
        name: {"level": "WARNING"} for name in ("sglang.srt.entrypoints.engine", "httpx", "httpcore")
    },
}

_QUIET_PATHS = ("/health", "/metrics")
"""Asked every few seconds: a line in the log for each would bury all others."""

_SHARED_MEMORY_BYTES = 32 * 1024**3
"""As in the `docker run` of SGLang's own installation page."""

_PASSIVE_HEALTH = {"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0"}
"""Else each GET /health generates a token and waits a second or more for it: costly when idle, red when busy."""

_SIGKILL = -9


class SglangAdapter:
    """A CommandAdapter for one deployment."""

    engine = "sglang"
    simulated = False
    # Embeddings and rerank are left out: a model that writes answers them with an error.
    routes = frozenset(
        route.path for route in (CHAT, COMPLETIONS, RESPONSES, MESSAGES, COUNT_TOKENS, TOKENIZE)
    )
    reports_stream_usage = True
    tokenize_field: str | None = "prompt"
    continuation = continuation_of(engine)
    probe_path = "/health"
    metrics_path: str | None = "/metrics"

    def __init__(self, name: str, deployment: SglangDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def served_name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._deployment.version or NEWEST_VERSION

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        return (one_token_completion(self._name),)

    def command(self, place: CommandPlace) -> EngineCommand:
        return self._command(place, self.version)

    def container(self) -> ContainerNeeds:
        return ContainerNeeds(
            image=self._deployment.image or f"lmsysorg/sglang:v{self.version}",
            entrypoint=(PROGRAM,),
            gpus=self._deployment.gpus_per_replica,
            shared_memory_bytes=_SHARED_MEMORY_BYTES,
            cache_folder="/root/.cache",
        )

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        if context.model_path is None:
            raise ConfigError(f"deployments.{self._name}: SGLang needs a model")
        program = find_program(self._name, self._deployment.binary, PROGRAM, self.engine, environ)
        version = checked_version(self._name, self._deployment.version, program, "sglang")
        command = self._command(process_place(context, str(context.model_path)), version or NEWEST_VERSION)
        return process_spec(command, context, program)

    def _command(self, place: CommandPlace, version: str) -> EngineCommand:
        deployment = self._deployment
        table = table_for(self.engine, version)
        managed = MANAGED_FLAGS if deployment.speculative is None else {**MANAGED_FLAGS, **SPECULATIVE_FLAGS}
        lint(f"deployments.{self._name}.extra_args", deployment.extra_args, table, managed)
        # Without --model-type it looks first whether the model makes pictures, on the hub if it has to.
        args = ["serve", "--model-type", "llm", "--model-path", place.model]
        args += ["--served-model-name", place.served_name, "--host", place.host, "--port", str(place.port)]
        args += ["--config", f"{place.folder}/{CONFIG_FILE}", "--enable-metrics"]
        args += ["--uvicorn-access-log-exclude-prefixes", *_QUIET_PATHS]
        args += [*deployment_flags(deployment), *deployment.extra_args]
        env = {
            **_PASSIVE_HEALTH,
            "SGLANG_LOGGING_CONFIG_PATH": f"{place.folder}/{LOGGING_FILE}",
            **visible_gpus(self._name, deployment, place.gpu_seat),
            **deployment.env,
        }
        files = {CONFIG_FILE: _KEY_IN_CONFIG, LOGGING_FILE: json.dumps(_LOGGING, indent=1) + "\n"}
        return EngineCommand(PROGRAM, tuple(args), env, files=files)

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status == 200:
            return ProbeReading(Verdict.READY, "answers")
        if status == 503:
            # It also says so while it drains after SIGTERM, when nobody asks any more.
            return ProbeReading(Verdict.LOADING, "is warming up")
        return ProbeReading(Verdict.UNWELL, f"its health page answers {status}")

    def read_metrics(self, page: str) -> EngineMetrics:
        """Names of 0.5.10 to 0.5.23; ranks of one replica (data parallel) are added up."""
        sums: dict[str, float] = {}
        for sample in samples(page):
            # With priorities, a total and its parts stand beside each other under one name.
            if 'priority="' not in sample.labels or 'priority=""' in sample.labels:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return EngineMetrics(
            running=whole(sums, "sglang:num_running_reqs"),
            waiting=whole(sums, "sglang:num_queue_reqs"),
            tokens_generated=whole(sums, "sglang:generation_tokens_total"),
            tokens_prompt=whole(sums, "sglang:prompt_tokens_total"),
            kv_cache_use=peak(page, "sglang:token_usage"),
            prefix_query_tokens=whole(sums, "sglang:prompt_tokens_total"),
            prefix_hit_tokens=whole(sums, "sglang:cached_tokens_total"),
            preemptions=whole(sums, "sglang:num_retracted_requests_total"),
            ttft_count=whole(sums, "sglang:time_to_first_token_seconds_count"),
            ttft_sum_s=sums.get("sglang:time_to_first_token_seconds_sum"),
        )

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        message = exit_with_cause(code, log_tail)
        if code == _SIGKILL and (cause := cause_in(log_tail)) is not None:
            # When one of its processes fails, SGLang kills all of them, itself last.
            message = f"{exit_text(code)}; the last error in its log: {cause}"
        if "Not enough memory" in message:
            message = f"{message} - change 'memory_fraction', 'context_tokens' or 'parallel'"
        return ExitReading(retryable=code != USAGE_EXIT_CODE, message=message)
