"""What engines print of their memory is read, as the engines print it."""

from __future__ import annotations

import pytest

from inferry.engines.launch_report import read_launch

GIB = 1024**3


@pytest.mark.parametrize(
    ("engine", "lines", "found"),
    [
        (
            "vllm",
            (
                "INFO 05-01 12:00:00 [gpu_model_runner.py:1843] Model loading took 14.9889 GiB and 3.2 seconds",
                "INFO 05-01 12:00:09 [kv_cache_utils.py:634] GPU KV cache size: 435,728 tokens",
            ),
            {"weights_bytes": 14.9889 * GIB, "kv_tokens": 435728},
        ),
        (
            "sglang",
            (
                "[2025-05-01 12:00:00] Load weight end. type=LlamaForCausalLM, dtype=torch.bfloat16, avail mem=63.54 GB, mem usage=14.99 GB.",
                "[2025-05-01 12:00:09] max_total_num_tokens=443236, chunked_prefill_size=8192",
            ),
            {"weights_bytes": 14.99 * GIB, "kv_tokens": 443236},
        ),
        (
            "tensorrt_llm",
            ("[TensorRT-LLM][INFO] [MemUsageChange] Allocated 22.99 GiB for max tokens in paged KV cache (188416).",),
            {"kv_tokens": 188416},
        ),
        (
            "llamacpp",
            ("0.00.5 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 2048, kv_unified = 'false'",),
            {"kv_tokens": 8192},
        ),
        ("transformers", ("GPU KV cache size: 1 tokens",), {}),
        ("vllm", ("nothing of the kind", "KV cache size: tokens"), {}),
    ],
)  # fmt: skip
def test_memory_is_read(engine: str, lines: tuple[str, ...], found: dict[str, float]) -> None:
    """Bytes of weights and tokens of KV cache, under our names and in our units; nothing from what is not known."""
    assert read_launch(engine, lines) == pytest.approx(found)


def test_the_least_of_several_ranks_counts() -> None:
    """Each rank prints its own: the engine uses as many tokens as the smallest one holds."""
    lines = [f"GPU KV cache size: {tokens} tokens" for tokens in ("132,560", "132,400", "132,480")]
    assert read_launch("vllm", lines) == {"kv_tokens": 132400}
