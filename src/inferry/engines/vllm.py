"""vLLM: `vllm serve`, on GPUs or, in its CPU build, without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace, ContainerNeeds, EngineCommand, LaunchSpec
from inferry.core.request import CHAT, COMPLETIONS, COUNT_TOKENS, MESSAGES, RESPONSES, TOKENIZE
from inferry.core.server_engines import VllmDeployment
from inferry.engines.adapter import (
    EngineMetrics,
    ExitReading,
    LaunchContext,
    ProbeReading,
    Verdict,
    WarmupRequest,
)
from inferry.engines.continuation import continuation_of
from inferry.engines.flag_lint import lint
from inferry.engines.flag_table import FlagTable, table_for
from inferry.engines.gpus import visible_gpus
from inferry.engines.one_token import one_token_completion
from inferry.engines.program import (
    checked_version,
    find_program,
    process_place,
    process_spec,
    version_numbers,
)
from inferry.engines.prometheus_text import peak, sum_by_name, whole
from inferry.engines.vllm_exit import read_vllm_exit
from inferry.engines.vllm_flags import MANAGED_FLAGS, SPECULATIVE_FLAGS, deployment_flags

PROGRAM = "vllm"
NEWEST_VERSION = "0.32.0"

_SHARED_MEMORY_PER_GPU_BYTES = 2 * 1024**3
"""As vLLM's own example for Kubernetes has it (docs/deployment/k8s.md)."""

_DRAIN_SHARE = 0.8
"""Of `stop_grace_s`, for requests under way: the rest is for the engine to leave before it is killed."""

_QUIET_PATHS = "/health,/metrics"
"""Asked every few seconds: a line in the log for each would bury all others."""


class VllmAdapter:
    """A CommandAdapter for one deployment."""

    engine = "vllm"
    simulated = False
    reports_stream_usage = True
    tokenize_field: str | None = "prompt"
    continuation = continuation_of(engine)
    probe_path = "/health"
    metrics_path: str | None = "/metrics"

    def __init__(self, name: str, deployment: VllmDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def served_name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._deployment.version or NEWEST_VERSION

    @property
    def routes(self) -> frozenset[str]:
        """Embeddings and rerank are left out: a model that writes answers them with an error."""
        routes = [CHAT, COMPLETIONS, RESPONSES, TOKENIZE]
        # First seen in the sources of these versions; 0.10 and 0.13 were the last ones seen without.
        if version_numbers(self.version) >= (0, 13):
            routes.append(MESSAGES)
        if version_numbers(self.version) >= (0, 18, 1):
            routes.append(COUNT_TOKENS)
        return frozenset(route.path for route in routes)

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        return (one_token_completion(self._name),)

    def command(self, place: CommandPlace) -> EngineCommand:
        return self._command(place, self.version)

    def container(self) -> ContainerNeeds:
        return ContainerNeeds(
            image=self._deployment.image or self._image(),
            entrypoint=(PROGRAM,),
            gpus=0 if self._on_cpu else self._deployment.gpus_per_replica,
            shared_memory_bytes=_SHARED_MEMORY_PER_GPU_BYTES * self._deployment.gpus_per_replica,
            cache_folder="/root/.cache",
        )

    def _image(self) -> str:
        if self._on_cpu:
            raise ConfigError(
                f"deployments.{self._name}.image: name an image of vLLM's CPU build. "
                f"The usual one, for GPUs, can't be used with version '{self.version}'."
            )
        # Its tags always have three numbers.
        return f"vllm/vllm-openai:v{self.version}{'.0' if self.version.count('.') == 1 else ''}"

    @property
    def _on_cpu(self) -> bool:
        return "+cpu" in self.version

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        if context.model_path is None:
            raise ConfigError(f"deployments.{self._name}: vLLM needs a model")
        program = find_program(self._name, self._deployment.binary, PROGRAM, self.engine, environ)
        version = checked_version(self._name, self._deployment.version, program, "vllm")
        command = self._command(process_place(context, str(context.model_path)), version or NEWEST_VERSION)
        return process_spec(command, context, program)

    def _command(self, place: CommandPlace, version: str) -> EngineCommand:
        deployment = self._deployment
        table = table_for(self.engine, version)
        managed = MANAGED_FLAGS if deployment.speculative is None else {**MANAGED_FLAGS, **SPECULATIVE_FLAGS}
        lint(f"deployments.{self._name}.extra_args", deployment.extra_args, table, managed)
        args = ["serve", place.model, "--host", place.host, "--port", str(place.port)]
        args += ["--served-model-name", place.served_name]
        args += [*deployment_flags(deployment), *self._flags_of_version(table), *deployment.extra_args]
        env = {
            # Whether to report to vLLM's makers is the operator's to decide.
            "VLLM_NO_USAGE_STATS": "1",
            **visible_gpus(self._name, deployment, place.gpu_seat),
            **({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} if deployment.lora_live else {}),
            **deployment.env,
        }
        # Guards /v1 only: the port must not be reachable by others.
        return EngineCommand(PROGRAM, tuple(args), env, secret_env=("VLLM_API_KEY",))

    def _flags_of_version(self, table: FlagTable) -> list[str]:
        flags = []
        drain_s = int(self._deployment.stop_grace_s * _DRAIN_SHARE)
        # Without it, SIGTERM cuts off what is under way.
        if drain_s > 0 and "--shutdown-timeout" in table.flags:
            flags += ["--shutdown-timeout", str(drain_s)]
        if "--disable-access-log-for-endpoints" in table.flags:
            flags += ["--disable-access-log-for-endpoints", _QUIET_PATHS]
        return flags

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status == 200:
            return ProbeReading(Verdict.READY, "answers")
        if status == 503:
            # It listens only once the model is loaded, so this is never a start.
            return ProbeReading(Verdict.UNWELL, "its engine is dead (its health page answers 503)")
        return ProbeReading(Verdict.UNWELL, f"its health page answers {status}")

    def read_metrics(self, page: str) -> EngineMetrics:
        """Names of 0.10 to 0.32. Engines of one replica (data parallel) are added up."""
        sums = sum_by_name(page)
        return EngineMetrics(
            running=whole(sums, "vllm:num_requests_running"),
            waiting=whole(sums, "vllm:num_requests_waiting"),
            tokens_generated=whole(sums, "vllm:generation_tokens_total"),
            tokens_prompt=whole(sums, "vllm:prompt_tokens_total"),
            kv_cache_use=peak(page, "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
            prefix_query_tokens=whole(sums, "vllm:prefix_cache_queries_total"),
            prefix_hit_tokens=whole(sums, "vllm:prefix_cache_hits_total"),
            preemptions=whole(sums, "vllm:num_preemptions_total"),
            ttft_count=whole(sums, "vllm:time_to_first_token_seconds_count"),
            ttft_sum_s=sums.get("vllm:time_to_first_token_seconds_sum"),
        )

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        return read_vllm_exit(code, log_tail)
