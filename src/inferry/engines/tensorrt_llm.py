"""TensorRT-LLM by its own server, `trtllm-serve`: flags with underscores, and a YAML file for the rest.

It knows neither keys nor TLS, so whoever reaches its port may use it: as a process it listens where it is told,
which is loopback, and in a container its port must be published there only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace, ContainerNeeds, EngineCommand, LaunchSpec
from inferry.core.request import CHAT, COMPLETIONS, RESPONSES
from inferry.core.server_engines import Speculative, TensorRtLlmDeployment
from inferry.engines.adapter import (
    EngineMetrics,
    ExitReading,
    LaunchContext,
    ProbeReading,
    Verdict,
    WarmupRequest,
)
from inferry.engines.continuation import continuation_of
from inferry.engines.exit_cause import USAGE_EXIT_CODE, exit_with_cause
from inferry.engines.flag_lint import lint
from inferry.engines.flag_table import table_for
from inferry.engines.gpus import visible_gpus
from inferry.engines.one_token import one_token_completion
from inferry.engines.program import checked_version, find_program, process_place, process_spec
from inferry.engines.prometheus_text import peak, sum_by_name, whole

PROGRAM = "trtllm-serve"
NEWEST_VERSION = "1.2.1"
"""The newest that is no release candidate."""
CONFIG_FILE = "trtllm.yaml"
SHARED_MEMORY_BYTES = 8 * 1024**3
"""NVIDIA's own docker command shares the host's (--ipc host); this is what a container of its own gets instead."""

# Each with the key of the file to use instead.
_MANAGED_FLAGS = {
    "--host": "",
    "--port": "",
    "--served_model_name": "",
    "--config": "options",
    "--hf_revision": "model",
    "--revision": "model",
    "--tensor_parallel_size": "tensor_parallel",
    "--pipeline_parallel_size": "pipeline_parallel",
    "--max_seq_len": "context_tokens",
    "--max_num_tokens": "batched_tokens",
    "--max_batch_size": "parallel",
    "--free_gpu_memory_fraction": "memory_fraction",
    "--kv_cache_dtype": "kv_cache_dtype",
    "--enable_chunked_prefill": "chunked_prefill",
    "--trust_remote_code": "trust_remote_code",
    "--grpc": "",
}


class TensorRtLlmAdapter:
    """A CommandAdapter for one deployment."""

    engine = "tensorrt-llm"
    simulated = False
    routes = frozenset(route.path for route in (CHAT, COMPLETIONS, RESPONSES))
    reports_stream_usage = True
    tokenize_field: str | None = None
    continuation = continuation_of(engine)
    probe_path = "/health"
    # Its /metrics is a list of iterations, in JSON; this one is there with return_perf_metrics only.
    metrics_path: str | None = "/prometheus/metrics"

    def __init__(self, name: str, deployment: TensorRtLlmDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def served_name(self) -> str:
        """Versions without --served_model_name take any name."""
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
        deployment = self._deployment
        return ContainerNeeds(
            image=deployment.image or f"nvcr.io/nvidia/tensorrt-llm/release:{self.version}",
            entrypoint=(PROGRAM,),
            gpus=self._deployment.gpus_per_replica,
            shared_memory_bytes=SHARED_MEMORY_BYTES,
            cache_folder="/root/.cache",
        )

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        if context.model_path is None:
            raise ConfigError(f"deployments.{self._name}: TensorRT-LLM needs a model")
        program = find_program(self._name, self._deployment.binary, PROGRAM, self.engine, environ)
        version = checked_version(self._name, self._deployment.version, program, "tensorrt_llm")
        command = self._command(process_place(context, str(context.model_path)), version or NEWEST_VERSION)
        return process_spec(command, context, program)

    def _command(self, place: CommandPlace, version: str) -> EngineCommand:
        deployment = self._deployment
        table = table_for(self.engine, version)
        lint(f"deployments.{self._name}.extra_args", deployment.extra_args, table, _MANAGED_FLAGS)
        args = self._args(place)
        if "--served_model_name" in table.flags:
            args += ["--served_model_name", place.served_name]
        if "--no-telemetry" in table.flags:
            # Whether to report to the engine's makers is the operator's to decide.
            args.append("--no-telemetry")
        env = visible_gpus(self._name, deployment, place.gpu_seat)
        return EngineCommand(
            program=PROGRAM,
            args=(*args, *deployment.extra_args),
            env={**env, **deployment.env},
            files={CONFIG_FILE: yaml.safe_dump(self._config(), sort_keys=False)},
        )

    def _args(self, place: CommandPlace) -> list[str]:
        deployment = self._deployment
        args = ["serve", place.model, "--host", place.host, "--port", str(place.port)]
        args += ["--config", f"{place.folder}/{CONFIG_FILE}"]
        args += ["--tensor_parallel_size", str(deployment.tensor_parallel)]
        args += ["--pipeline_parallel_size", str(deployment.pipeline_parallel)]
        for flag, value in (
            ("--max_seq_len", deployment.context_tokens),
            ("--max_num_tokens", deployment.batched_tokens),
            ("--max_batch_size", deployment.parallel),
        ):
            if value is not None:
                args += [flag, str(value)]
        if deployment.chunked_prefill:
            args.append("--enable_chunked_prefill")
        if deployment.trust_remote_code:
            args.append("--trust_remote_code")
        return args

    def _config(self) -> dict[str, Any]:
        """What goes by file only, and all of the KV cache: up to 1.2 the file wins over flags, later they over it."""
        deployment = self._deployment
        config: dict[str, Any] = {"return_perf_metrics": True, "enable_iter_perf_stats": True}
        if deployment.dtype is not None:
            config["dtype"] = deployment.dtype
        if deployment.quantization is not None:
            config["quant_config"] = {"quant_algo": deployment.quantization}
        cache = {
            "free_gpu_memory_fraction": deployment.memory_fraction,
            "enable_block_reuse": deployment.prefix_caching,
            "dtype": deployment.kv_cache_dtype,
        }
        cache = {key: value for key, value in cache.items() if value is not None}
        if cache:
            config["kv_cache_config"] = cache
        if deployment.lora:
            config["lora_config"] = {"lora_dir": list(deployment.lora.values())}
        if deployment.speculative is not None:
            config["speculative_config"] = _speculative_config(deployment.speculative)
        return _merged(config, deployment.options)

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status == 200:
            return ProbeReading(Verdict.READY, "answers")
        # While it loads, nobody listens; 503 is an executor that ended.
        return ProbeReading(Verdict.UNWELL, f"its health page answers {status}")

    def read_metrics(self, page: str) -> EngineMetrics:
        sums = sum_by_name(page)
        return EngineMetrics(
            running=whole(sums, "trtllm_num_requests_running"),
            waiting=whole(sums, "trtllm_num_requests_waiting"),
            tokens_generated=whole(sums, "trtllm_generation_tokens_total"),
            tokens_prompt=whole(sums, "trtllm_prompt_tokens_total"),
            kv_cache_use=peak(page, "trtllm_kv_cache_utilization"),
            ttft_count=whole(sums, "trtllm_time_to_first_token_seconds_count"),
            ttft_sum_s=sums.get("trtllm_time_to_first_token_seconds_sum"),
        )

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        return ExitReading(retryable=code != USAGE_EXIT_CODE, message=exit_with_cause(code, log_tail))


def _speculative_config(speculative: Speculative) -> dict[str, Any]:
    """In the engine's words (tensorrt_llm/llmapi/llm_args.py)."""
    if speculative.method == "mtp":
        return {"decoding_type": "MTP", "num_nextn_predict_layers": speculative.tokens}
    names = {"ngram": "NGram", "draft_model": "DraftTarget", "eagle": "Eagle", "eagle3": "Eagle"}
    config: dict[str, Any] = {
        "decoding_type": names[speculative.method],
        "max_draft_len": speculative.tokens,
    }
    if speculative.model is not None:
        config["speculative_model_dir"] = speculative.model
    if speculative.method == "eagle3":
        config["eagle3_one_model"] = True
    return config


def _merged(ours: dict[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Theirs over ours, key by key also inside of sections that both have."""
    merged = {**ours, **theirs}
    for key, value in ours.items():
        other = theirs.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            merged[key] = {**value, **other}
    return merged
