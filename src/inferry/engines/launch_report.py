"""What engines print of their memory when they start: bytes of weights, tokens that the KV cache holds.

The lines, as their sources have them (2024 to 2026): vLLM gpu_model_runner.py and kv_cache_utils.py; SGLang
model_runner.py and scheduler.py; TensorRT-LLM's resource manager; llama.cpp's server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_GIB = 1024.0**3
_NUMBER = r"([\d,]+(?:\.\d+)?)"

_VLLM = {
    "kv_tokens": re.compile(rf"(?:GPU|CPU) KV cache size: {_NUMBER} tokens"),
    "weights_bytes": re.compile(rf"(?:Model loading took|Loading model weights took) {_NUMBER} Gi?B"),
    "graphs_bytes": re.compile(rf"Graph capturing finished in .*, took {_NUMBER} Gi?B"),
}
_SGLANG = {
    "kv_tokens": re.compile(rf"max_total_num_tokens={_NUMBER}"),
    "weights_bytes": re.compile(rf"Load weight end\..*mem usage={_NUMBER} GB"),
}
_TENSORRT_LLM = {
    "kv_tokens": re.compile(rf"max tokens in paged KV cache \({_NUMBER}\)"),
}
_LLAMACPP = {
    "slots": re.compile(rf"n_slots = {_NUMBER}, n_ctx_slot = \d+"),
    "slot_tokens": re.compile(rf"n_slots = \d+, n_ctx_slot = {_NUMBER}"),
}
_PATTERNS: Mapping[str, Mapping[str, re.Pattern[str]]] = {
    "vllm": _VLLM,
    "sglang": _SGLANG,
    "tensorrt_llm": _TENSORRT_LLM,
    "llamacpp": _LLAMACPP,
}


def read_launch(engine: str, lines: Iterable[str]) -> dict[str, float]:
    """`weights_bytes` and `kv_tokens` as far as the engine told; of several ranks the least. Empty for other engines.

    Both vLLM and SGLang print GiB where they write GB.
    """
    found: dict[str, float] = {}
    patterns = _PATTERNS.get(engine, {})
    for line in lines:
        for name, pattern in patterns.items():
            match = pattern.search(line)
            if match is None:
                continue
            value = float(match[1].replace(",", "")) * (_GIB if name.endswith("_bytes") else 1.0)
            found[name] = min(value, found.get(name, value)) if name == "kv_tokens" else value
    if "slots" in found and "slot_tokens" in found:
        found = {"kv_tokens": found["slots"] * found["slot_tokens"]}
    return found
