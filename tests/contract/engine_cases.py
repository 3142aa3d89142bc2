"""One deployment per way of having an engine, for the suites that run over all of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from inferry.core.deployment import ENGINE_TYPES, Deployment
from inferry.engines.adapter import LaunchableAdapter, LaunchContext, RemoteAdapter
from inferry.engines.registry import adapter_for

SECRET = "s3cret-of-this-process"
NAME = "chat"

_BUSY_PAGES = {
    "llamacpp": """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 55
# HELP llamacpp:tokens_predicted_total Number of generation tokens processed.
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 1234
llamacpp:predicted_tokens_seconds 21.5
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 3
llamacpp:requests_deferred 2
llamacpp:n_busy_slots_per_decode 1.00001
""",
    "simulated": """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="odd} \\"name"} 3.0
vllm:num_requests_waiting{engine="0",model_name="odd} \\"name"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="odd} \\"name"} 0.25
vllm:generation_tokens_total{engine="0",model_name="odd} \\"name"} 1234.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="odd} \\"name"} 9.0
""",
    "vllm": """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="chat"} 1.0
vllm:num_requests_running{engine="1",model_name="chat"} 2.0
vllm:num_requests_waiting{engine="0",model_name="chat"} 2.0
vllm:generation_tokens_total{engine="0",model_name="chat"} 1000.0
vllm:generation_tokens_total{engine="1",model_name="chat"} 234.0
vllm:generation_tokens_created{engine="0",model_name="chat"} 1.790000e+09
vllm:kv_cache_usage_perc{engine="0",model_name="chat"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="chat"} 0.5
""",
    "sglang": """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{dp_rank="0",engine_type="unified",model_name="chat",priority="",tp_rank="0"} 1.0
sglang:num_running_reqs{dp_rank="1",engine_type="unified",model_name="chat",priority="",tp_rank="0"} 2.0
sglang:num_running_reqs{dp_rank="1",engine_type="unified",model_name="chat",priority="7",tp_rank="0"} 2.0
sglang:num_queue_reqs{dp_rank="0",engine_type="unified",model_name="chat",priority="",tp_rank="0"} 2.0
sglang:token_usage{dp_rank="0",engine_type="unified",model_name="chat",tp_rank="0"} 0.25
sglang:generation_tokens_total{is_streaming="true",model_name="chat"} 1000.0
sglang:generation_tokens_total{is_streaming="false",model_name="chat"} 234.0
""",
    # These two are made up of the names in their documentation and source: neither engine runs without a GPU.
    "tensorrt-llm": """\
# HELP trtllm_num_requests_running Requests running
# TYPE trtllm_num_requests_running gauge
trtllm_num_requests_running{engine_type="trtllm",model_name="m"} 3.0
trtllm_num_requests_waiting{engine_type="trtllm",model_name="m"} 2.0
trtllm_kv_cache_utilization{engine_type="trtllm",model_name="m"} 0.25
trtllm_generation_tokens_total{engine_type="trtllm",model_name="m"} 1234.0
trtllm_time_to_first_token_seconds_bucket{engine_type="trtllm",le="+Inf",model_name="m"} 9.0
""",
    "tgi": """\
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 3

# TYPE tgi_queue_size gauge
tgi_queue_size 2

# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_bucket{le="+Inf"} 40
tgi_request_generated_tokens_sum 1234
tgi_request_generated_tokens_count 40
""",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A deployment by a name of its own; equal settings make equal deployments."""

    id: str
    engine: str
    settings: tuple[tuple[str, object], ...] = ()
    busy_page: str | None = None
    """A metrics page as the real engine prints it: 3 running, 2 waiting, 1234 tokens; None: has none."""
    keyless: bool = False
    """It knows no key: only its place on loopback guards it."""
    by_environment: bool = False
    """It is told where to listen by its environment, not by --host and --port."""
    host_flag: str = "--host"
    unnamed: bool = False
    """It is told no name for its model: it takes any, or has one of its own."""

    def deployment(self) -> Deployment:
        fields = {"engine": self.engine, **dict(self.settings)}
        return TypeAdapter[Deployment](Deployment).validate_python(fields)

    def adapter(self) -> LaunchableAdapter | RemoteAdapter:
        return adapter_for(NAME, self.deployment())


CASES = (
    Case("llamacpp", "llamacpp", (("model", "file:/m.gguf"),), _BUSY_PAGES["llamacpp"]),
    Case(
        "llamacpp-binary",
        "llamacpp",
        # Any program that is there will do: nothing is started from this one.
        (("model", "file:/m.gguf"), ("binary", sys.executable), ("extra_args", ("--flash-attn", "on"))),
        _BUSY_PAGES["llamacpp"],
    ),
    Case(
        "ollama",
        "ollama",
        (("model", "llama3.2:1b"), ("binary", sys.executable)),
        keyless=True,
        by_environment=True,
    ),
    Case(
        "openai",
        "openai",
        (
            ("model", "org/big"),
            ("endpoints", ("http://10.0.0.7:9001/v1", "https://h.example/p/v1")),
            ("api_key", SECRET),
        ),
    ),
    Case("sglang", "sglang", (("model", "file:/m"), ("binary", sys.executable)), _BUSY_PAGES["sglang"]),
    Case("simulated", "simulated", (), _BUSY_PAGES["simulated"]),
    Case(
        "tensorrt-llm-1.2",
        "tensorrt-llm",
        (("model", "file:/m"), ("binary", sys.executable), ("version", "1.2.1")),
        _BUSY_PAGES["tensorrt-llm"],
        keyless=True,
        unnamed=True,
    ),
    Case(
        "tensorrt-llm-1.3",
        "tensorrt-llm",
        (("model", "file:/m"), ("binary", sys.executable), ("version", "1.3.0rc20")),
        _BUSY_PAGES["tensorrt-llm"],
        keyless=True,
    ),
    Case(
        "tgi",
        "tgi",
        (("model", "file:/m"), ("binary", sys.executable)),
        _BUSY_PAGES["tgi"],
        host_flag="--hostname",
        unnamed=True,
    ),
    Case("transformers", "transformers", (("model", "file:/m"), ("binary", sys.executable)), keyless=True),
    Case("vllm", "vllm", (("model", "file:/m"), ("binary", sys.executable)), _BUSY_PAGES["vllm"]),
    Case(
        "vllm-0.10",
        "vllm",
        (("model", "file:/m"), ("binary", sys.executable), ("version", "0.10.0")),
        _BUSY_PAGES["vllm"],
    ),
)
assert {case.engine for case in CASES} == set(ENGINE_TYPES), "a new engine needs a case here"


def context(port: int = 8123, host: str = "127.0.0.1", model_path: Path | None = None) -> LaunchContext:
    return LaunchContext(
        replica_id=f"{NAME}-0",
        host=host,
        port=port,
        model_path=model_path or Path("/m.gguf"),
        served_name=NAME,
        threads=2,
        secret=SECRET,
    )
