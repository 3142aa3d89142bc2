"""What we tell and read of TensorRT-LLM."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from inferry.core.errors import ConfigError
from inferry.core.launch import CommandPlace
from inferry.core.server_engines import TensorRtLlmDeployment
from inferry.engines.adapter import Verdict
from inferry.engines.tensorrt_llm import TensorRtLlmAdapter

from .golden_files import assert_golden
from .spec_text import SECRET, at_8123, spec_text

FULL: dict[str, object] = {
    "context_tokens": 8192,
    "parallel": 64,
    "tensor_parallel": 2,
    "pipeline_parallel": 2,
    "dtype": "bfloat16",
    "quantization": "FP8",
    "memory_fraction": 0.8,
    "batched_tokens": 4096,
    "chunked_prefill": True,
    "prefix_caching": False,
    "kv_cache_dtype": "fp8",
    "lora": {"law": "/adapters/law"},
    "speculative": {"method": "eagle3", "model": "/models/heads", "tokens": 3},
    "trust_remote_code": True,
    "gpus": [0, 1, 2, 3],
    "env": {"NCCL_DEBUG": "WARN"},
    "options": {"enable_attention_dp": True, "kv_cache_config": {"host_cache_size": 1000000}},
    "extra_args": ["--reasoning_parser", "qwen3"],
}


def adapter(**fields: object) -> TensorRtLlmAdapter:
    base = {"engine": "tensorrt-llm", "model": "file:/models/m", "binary": sys.executable}
    return TensorRtLlmAdapter("chat", TensorRtLlmDeployment.model_validate({**base, **fields}))


def config(**fields: object) -> dict[str, Any]:
    (content,) = adapter(**fields).launch(at_8123(), {}).files.values()
    loaded: dict[str, Any] = yaml.safe_load(content)
    return loaded


@pytest.mark.parametrize(("name", "fields"), [("plain", {}), ("full", FULL)])
@pytest.mark.parametrize("version", ["1.2.1", "1.3.0rc20"])
def test_golden_launch_spec(name: str, fields: dict[str, object], version: str) -> None:
    """What is started, per version: every word, variable and file."""
    spec = adapter(version=version, **fields).launch(at_8123(), {})
    assert_golden(f"tensorrt-llm-{version}-{name}.txt", spec_text(spec))


def test_no_key_is_given() -> None:
    """It has nowhere to put one: neither argument, variable nor file holds it."""
    spec = adapter().launch(at_8123(), {})
    assert SECRET not in spec_text(spec)
    assert adapter().command(CommandPlace("127.0.0.1", 1, "/m", "chat", "/f")).secret_env == ()


def test_metrics_are_switched_on() -> None:
    """Without these two keys there is no Prometheus page, or one without queue and cache."""
    assert config() == {"return_perf_metrics": True, "enable_iter_perf_stats": True}
    assert adapter().metrics_path == "/prometheus/metrics"


def test_options_of_the_file_win() -> None:
    """They are laid over ours, also inside of sections that both have."""
    merged = config(
        memory_fraction=0.5,
        options={"kv_cache_config": {"enable_partial_reuse": False}, "enable_iter_perf_stats": False},
    )
    assert merged["kv_cache_config"] == {"free_gpu_memory_fraction": 0.5, "enable_partial_reuse": False}
    assert merged["enable_iter_perf_stats"] is False


@pytest.mark.parametrize(
    ("speculative", "written"),
    [
        ({"method": "ngram", "tokens": 5}, {"decoding_type": "NGram", "max_draft_len": 5}),
        ({"method": "mtp", "tokens": 2}, {"decoding_type": "MTP", "num_nextn_predict_layers": 2}),
        (
            {"method": "draft_model", "model": "/d"},
            {"decoding_type": "DraftTarget", "max_draft_len": 4, "speculative_model_dir": "/d"},
        ),
    ],
)
def test_speculation_in_its_own_words(speculative: dict[str, object], written: dict[str, object]) -> None:
    """Each method has its name and its count there."""
    assert config(speculative=speculative)["speculative_config"] == written


def test_one_adapter_at_most() -> None:
    """It learns the adapters' layout from one folder; the file says so before anything is started."""
    with pytest.raises(ValidationError, match="lora_request"):
        adapter(lora={"a": "/a", "b": "/b"})


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--port", "1"], "drop '--port': Inferry sets it itself"),
        (["--tp_size", "2"], "write 'tensor_parallel'"),
        (["--kv_cache_free_gpu_memory_fraction", "0.5"], "write 'memory_fraction'"),
        (["--extra_llm_api_options", "x.yaml"], "write 'options'"),
        (["--max-beam-width", "2"], "Did you mean '--max_beam_width'?"),
        (["--tokenizer"], "'--tokenizer' needs a value"),
    ],
)
def test_extra_arguments_are_checked(extra: list[str], said: str) -> None:
    """Ours under any of their names, ones written with dashes, and ones without their value are refused."""
    with pytest.raises(ConfigError) as raised:
        adapter(extra_args=extra).launch(at_8123(), {})
    assert said in raised.value.message


def test_flags_of_a_later_version_are_unknown_to_an_earlier_one() -> None:
    """1.3 has a flag for the served name and for telemetry; 1.2 has neither, and takes any name."""
    old, new = (adapter(version=version).launch(at_8123(), {}).argv for version in ("1.2.1", "1.3.0"))
    assert not {"--served_model_name", "--no-telemetry"} & set(old)
    assert {"--served_model_name", "--no-telemetry"} <= set(new)
    with pytest.raises(ConfigError, match="--num_serve_frontends"):
        adapter(version="1.2.1", extra_args=["--num_serve_frontends", "2"]).launch(at_8123(), {})


def test_container() -> None:
    """The release of the version, for all its GPUs, with shared memory."""
    needs = adapter(version="1.2.0", tensor_parallel=2, pipeline_parallel=2).container()
    assert needs.image.endswith("tensorrt-llm/release:1.2.0")
    assert (needs.gpus, needs.entrypoint) == (4, ("trtllm-serve",))
    assert needs.shared_memory_bytes is not None


def test_health_readings() -> None:
    """503 is an executor that ended: while it loads, nobody listens."""
    assert adapter().read_probe(200, b"").verdict is Verdict.READY
    assert adapter().read_probe(503, b"LLM is unavailable.").verdict is Verdict.UNWELL


def test_metrics_under_our_names() -> None:
    """A page with the names of its collector, `trtllm_` in front."""
    page = (
        'trtllm_num_requests_running{model_name="m"} 2\ntrtllm_num_requests_waiting 1\n'
        "trtllm_kv_cache_utilization 0.5\ntrtllm_prompt_tokens_total 100\ntrtllm_generation_tokens_total 7\n"
        "trtllm_time_to_first_token_seconds_count 4\ntrtllm_time_to_first_token_seconds_sum 0.5\n"
    )
    metrics = adapter().read_metrics(page)
    assert (metrics.running, metrics.waiting, metrics.kv_cache_use) == (2, 1, 0.5)
    assert (metrics.tokens_prompt, metrics.tokens_generated) == (100, 7)
    assert (metrics.ttft_count, metrics.ttft_sum_s) == (4, 0.5)


def test_the_json_page_is_no_metrics_page() -> None:
    """What it answers under /metrics, a list of iterations, gives no figure by accident."""
    page = '[{"iter": 1, "numActiveRequests": 3, "kvCacheStats": {"usedNumBlocks": 5}}]'
    assert adapter().read_metrics(page).running is None


def test_exit_readings() -> None:
    """click's usage error is final; a GPU that is full is called that."""
    usage = adapter().read_exit(2, ["Error: No such option: --tpsize"])
    assert (usage.retryable, "No such option" in usage.message) == (False, True)
    assert "not enough GPU memory" in adapter().read_exit(1, ["RuntimeError: CUDA out of memory"]).message
