"""The simulated engine of the test kit: no model, vLLM's API and metric names. Says everywhere what it is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from inferry.core.launch import LaunchSpec
from inferry.core.local_engines import SimulatedDeployment
from inferry.core.replica import Endpoint
from inferry.core.request import ROUTES
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
from inferry.engines.prometheus_text import sum_by_name, whole

_TIMING = ("step_ms_per_sequence", "prefill_tokens_per_s", "step_tokens_max", "kv_tokens", "start_s")


class SimulatedAdapter:
    """A LaunchableAdapter for one deployment."""

    engine = "simulated"
    simulated = True
    routes = frozenset(ROUTES)
    reports_stream_usage = True
    tokenize_field: str | None = "prompt"
    continuation = continuation_of(engine)
    probe_path = "/health"
    metrics_path: str | None = "/metrics"

    def __init__(self, name: str, deployment: SimulatedDeployment) -> None:
        self._name = name
        self._deployment = deployment

    @property
    def served_name(self) -> str:
        return self._name

    @property
    def warmups(self) -> Sequence[WarmupRequest]:
        return (one_token_completion(self._name),)

    def launch(self, context: LaunchContext, environ: Mapping[str, str]) -> LaunchSpec:
        deployment = self._deployment
        # Named, not imported: production code never imports the test kit.
        argv = [sys.executable, "-P", "-m", "inferry.testing.simulated_engine"]
        argv += ["--host", context.host, "--port", str(context.port), "--served-name", context.served_name]
        argv += ["--context-tokens", str(deployment.context_tokens), "--parallel", str(deployment.parallel)]
        argv += ["--ttft-ms", str(deployment.ttft_ms), "--itl-ms", str(deployment.itl_ms)]
        for name in _TIMING:
            value = getattr(deployment, name)
            if value:  # 0 and None are what the program does anyway
                argv += ["--" + name.replace("_", "-"), str(value)]
        if deployment.faults:
            argv.append("--faults")
        return LaunchSpec(
            replica_id=context.replica_id,
            argv=tuple(argv),
            endpoint=Endpoint(
                context.host, context.port, headers=(("Authorization", f"Bearer {context.secret}"),)
            ),
            env={"INFERRY_ENGINE_KEY": context.secret},
        )

    def read_probe(self, status: int, body: bytes) -> ProbeReading:
        if status == 200:
            return ProbeReading(Verdict.READY, "answers")
        # vLLM's /health goes red only when its engine is dead.
        return ProbeReading(Verdict.UNWELL, f"its health page answers {status}")

    def read_metrics(self, page: str) -> EngineMetrics:
        sums = sum_by_name(page)
        return EngineMetrics(
            running=whole(sums, "vllm:num_requests_running"),
            waiting=whole(sums, "vllm:num_requests_waiting"),
            tokens_generated=whole(sums, "vllm:generation_tokens_total"),
            tokens_prompt=whole(sums, "vllm:prompt_tokens_total"),
            kv_cache_use=sums.get("vllm:kv_cache_usage_perc"),
            prefix_query_tokens=whole(sums, "vllm:prefix_cache_queries_total"),
            prefix_hit_tokens=whole(sums, "vllm:prefix_cache_hits_total"),
            preemptions=whole(sums, "vllm:num_preemptions_total"),
            gpu_use=sums.get("simulated:gpu_use"),
        )

    def read_exit(self, code: int, log_tail: Sequence[str]) -> ExitReading:
        # 2 is argparse's: this version of the test kit does not know our flags.
        return ExitReading(retryable=code != 2, message=exit_text(code))
