"""Hugging Face's Text Generation Inference, by its launcher. For fleets that have it: it only gets fixes now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace, ContainerNeeds, EngineCommand, LaunchSpec
from inferry.core.request import CHAT, COMPLETIONS
from inferry.core.server_engines import TgiDeployment
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
from inferry.engines.program import find_program, process_place, process_spec
from inferry.engines.prometheus_text import sum_by_name, whole

PROGRAM = "text-generation-launcher"
NEWEST_VERSION = "3.3.7"
BASE_MODEL = "tgi"
"""What requests carry as `model`: any other name is taken for a LoRA adapter's (router/src/lib.rs)."""
SHARED_MEMORY_BYTES = 1024**3
"""`--shm-size 1g` of TGI's own docker command, for NCCL."""

# Each with the key of the file to use instead.
_MANAGED_FLAGS = {
    "--model-id": "model",
    "--revision": "model",
    "--hostname": "",
    "--port": "",
    "--api-key": "",
    "--shard-uds-path": "",
    "--master-port": "",
    "--num-shard": "tensor_parallel",
    "--sharded": "tensor_parallel",
    "--quantize": "quantization",
    "--dtype": "dtype",
    "--kv-cache-dtype": "kv_cache_dtype",
    "--max-total-tokens": "context_tokens",
    "--max-input-tokens": "context_tokens",
    "--max-input-length": "context_tokens",
    "--max-batch-prefill-tokens": "batched_tokens",
    "--max-concurrent-requests": "parallel",
    "--cuda-memory-fraction": "memory_fraction",
    "--lora-adapters": "lora",
    "--speculate": "speculative_tokens",
    "--trust-remote-code": "trust_remote_code",
}


class TgiAdapter:
    """A CommandAdapter for one deployment."""

    engine = "tgi"
    simulated = False
    # Its /tokenize wants `inputs` and answers a bare list; embeddings, responses, messages and rerank it has not.
    routes = frozenset(route.path for route in (CHAT, COMPLETIONS))
    reports_stream_usage = True
    tokenize_field: str | None = None
    continuation = continuation_of(engine)
    probe_path = "/health"
    metrics_path: str | None = "/metrics"
    served_name = BASE_MODEL

    def __init__(self, name: str, deployment: TgiDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def version(self) -> str:
        """Not looked up: the launcher has no metadata beside it, and its Python part has a version of its own."""
        return self._deployment.version or NEWEST_VERSION

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        return (one_token_completion(BASE_MODEL),)

    def command(self, place: CommandPlace) -> EngineCommand:
        table = table_for(self.engine, self.version)
        lint(f"deployments.{self._name}.extra_args", self._deployment.extra_args, table, _MANAGED_FLAGS)
        return EngineCommand(
            program=PROGRAM,
            args=(*self._args(place), *self._deployment.extra_args),
            env={**self._env(place.gpu_seat), **self._deployment.env},
            # The launcher hands it to its router as an argument: it has no better way (launcher/src/main.rs).
            secret_env=("API_KEY",),
        )

    def container(self) -> ContainerNeeds:
        deployment = self._deployment
        return ContainerNeeds(
            image=deployment.image or f"ghcr.io/huggingface/text-generation-inference:{self.version}",
            entrypoint=(PROGRAM,),
            gpus=deployment.tensor_parallel,
            shared_memory_bytes=SHARED_MEMORY_BYTES,
            cache_folder="/data",
        )

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        if context.model_path is None:
            raise ConfigError(f"deployments.{self._name}: TGI needs a model")
        program = find_program(self._name, self._deployment.binary, PROGRAM, self.engine, environ)
        command = self.command(process_place(context, str(context.model_path)))
        return process_spec(command, context, program)

    def _args(self, place: CommandPlace) -> list[str]:
        deployment = self._deployment
        # The host must be an address: a name that it can't parse means 0.0.0.0 to it (router/src/server.rs).
        args = ["--model-id", place.model, "--hostname", place.host, "--port", str(place.port)]
        # Always: left out, it takes every GPU that it sees.
        args += ["--num-shard", str(deployment.tensor_parallel)]
        # Two replicas with one socket path delete each other's sockets at their start.
        args += ["--shard-uds-path", f"/tmp/text-generation-server-{place.port}"]
        if deployment.tensor_parallel > 1:
            args += ["--master-port", str(_master_port(place.port))]
        if deployment.context_tokens is not None:
            args += ["--max-total-tokens", str(deployment.context_tokens)]
            # It wants room for one token of answer at least, and its own bound is 4095 otherwise.
            args += ["--max-input-tokens", str(deployment.context_tokens - 1)]
        if deployment.parallel is not None:
            # Above it answers 429. Twice, since a request leaves its count a moment after its last byte.
            args += ["--max-concurrent-requests", str(2 * deployment.parallel)]
        for flag, value in (
            ("--dtype", deployment.dtype),
            ("--quantize", deployment.quantization),
            ("--kv-cache-dtype", deployment.kv_cache_dtype),
            ("--cuda-memory-fraction", deployment.memory_fraction),
            ("--max-batch-prefill-tokens", deployment.batched_tokens),
            ("--speculate", deployment.speculative_tokens),
        ):
            if value is not None:
                args += [flag, str(value)]
        if deployment.lora:
            args += ["--lora-adapters", ",".join(f"{name}={path}" for name, path in deployment.lora.items())]
        if deployment.trust_remote_code:
            args.append("--trust-remote-code")
        return args

    def _env(self, gpu_seat: int) -> dict[str, str]:
        """What it takes from the environment: versions without such a flag pass over it there."""
        deployment = self._deployment
        env = {
            # At `info` the launcher logs all its arguments, with the key.
            "LOG_LEVEL": "info,text_generation_launcher=warn",
            # Its recorder binds 9000 for a moment, though nobody asks there, and ends if that is taken (#3062
            # of TGI): any free port will do. Its pages come from the port of everything else.
            "PROMETHEUS_PORT": "0",
            # Its shards are process groups of their own: they must have ended before the launcher is killed.
            "GRACEFUL_TERMINATION_TIMEOUT": str(max(1, int(deployment.stop_grace_s) - 2)),
            # Whether to report to the engine's makers is the operator's to decide.
            "USAGE_STATS": "off",
        }
        if deployment.prefix_caching is not None:
            env["PREFIX_CACHING"] = "1" if deployment.prefix_caching else "0"
        return env | visible_gpus(self._name, deployment, gpu_seat)

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status == 200:
            return ProbeReading(Verdict.READY, "answers")
        if status == 429:
            return ProbeReading(Verdict.BUSY, "has as many requests as it takes")
        # While it loads, nobody listens: its router starts when the shards are ready.
        return ProbeReading(Verdict.UNWELL, f"its health page answers {status}")

    def read_metrics(self, page: str) -> EngineMetrics:
        sums = sum_by_name(page)
        return EngineMetrics(
            running=whole(sums, "tgi_batch_current_size"),
            waiting=whole(sums, "tgi_queue_size"),
            tokens_generated=whole(sums, "tgi_request_generated_tokens_sum"),
            tokens_prompt=whole(sums, "tgi_request_input_length_sum"),
        )

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        message = exit_with_cause(code, log_tail)
        refused = any("Error: ArgumentValidation" in line for line in log_tail)
        return ExitReading(retryable=code != USAGE_EXIT_CODE and not (code > 0 and refused), message=message)


def _master_port(port: int) -> int:
    """For torch between the shards: 41000 gives 19000, below the ports that systems give out (from 32768)."""
    return port - 22000 if port > 32767 else port + 30000
