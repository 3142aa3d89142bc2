"""From the keys of the deployment file to the flags of `vllm serve`.

Spelled the same in all versions of engines/tables/vllm-*.json, where they were read.
"""

from __future__ import annotations

import json

from inferry.core.server_engines import Speculative, VllmDeployment

_TLS = "Inferry speaks plain HTTP to its engines; 'gateway: tls:' is for clients"

MANAGED_FLAGS = {
    "--model": "model",
    "--served-model-name": "",
    "--host": "",
    "--port": "",
    "--uds": "",
    "--api-key": "",
    "--root-path": "",
    "--shutdown-timeout": "stop_grace_s",
    "--ssl-keyfile": _TLS,
    "--ssl-certfile": _TLS,
    "--ssl-ca-certs": _TLS,
    "--tensor-parallel-size": "tensor_parallel",
    "--pipeline-parallel-size": "pipeline_parallel",
    "--data-parallel-size": "data_parallel",
    "--max-model-len": "context_tokens",
    "--max-num-seqs": "parallel",
    "--max-num-batched-tokens": "batched_tokens",
    "--gpu-memory-utilization": "memory_fraction",
    "--dtype": "dtype",
    "--quantization": "quantization",
    "--kv-cache-dtype": "kv_cache_dtype",
    "--enable-chunked-prefill": "chunked_prefill",
    "--no-enable-chunked-prefill": "chunked_prefill",
    "--enable-prefix-caching": "prefix_caching",
    "--no-enable-prefix-caching": "prefix_caching",
    "--trust-remote-code": "trust_remote_code",
    "--no-trust-remote-code": "trust_remote_code",
    "--enable-lora": "lora",
    "--no-enable-lora": "lora",
    "--lora-modules": "lora",
}
"""Not to be given as extra arguments, with the key to use instead."""

SPECULATIVE_FLAGS = dict.fromkeys(
    ("--speculative-config", "--spec-method", "--spec-model", "--spec-tokens"), "speculative"
)
"""The same, where the file has `speculative`; else they are free, since vLLM has more ways than the file."""


def deployment_flags(deployment: VllmDeployment) -> list[str]:
    """The flags of all keys that are not left to vLLM."""
    flags: list[str] = []
    for flag, count in (
        ("--tensor-parallel-size", deployment.tensor_parallel),
        ("--pipeline-parallel-size", deployment.pipeline_parallel),
        ("--data-parallel-size", deployment.data_parallel),
    ):
        if count > 1:
            flags += [flag, str(count)]
    for flag, value in (
        ("--max-model-len", deployment.context_tokens),
        ("--max-num-seqs", deployment.parallel),
        ("--max-num-batched-tokens", deployment.batched_tokens),
        ("--gpu-memory-utilization", deployment.memory_fraction),
        ("--dtype", deployment.dtype),
        ("--quantization", deployment.quantization),
        ("--kv-cache-dtype", deployment.kv_cache_dtype),
    ):
        if value is not None:
            flags += [flag, str(value)]
    for name, wanted in (
        ("enable-chunked-prefill", deployment.chunked_prefill),
        ("enable-prefix-caching", deployment.prefix_caching),
    ):
        if wanted is not None:
            flags.append(f"--{name}" if wanted else f"--no-{name}")
    if deployment.trust_remote_code:
        flags.append("--trust-remote-code")
    if deployment.lora or deployment.lora_live:
        flags.append("--enable-lora")
    if deployment.lora:
        flags += ["--lora-modules", *_lora_modules(deployment.lora)]
    if deployment.speculative is not None:
        flags += ["--speculative-config", _speculative_config(deployment.speculative)]
    return flags


def _lora_modules(adapters: dict[str, str]) -> list[str]:
    """As JSON where `name=path` would be misread: vLLM takes a comma for a sign of JSON."""
    return [
        json.dumps({"name": name, "path": path}) if "," in path else f"{name}={path}"
        for name, path in adapters.items()
    ]


def _speculative_config(speculative: Speculative) -> str:
    """vLLM's SpeculativeConfig; its words for the methods are the file's."""
    config: dict[str, str | int] = {"method": speculative.method}
    if speculative.model is not None:
        config["model"] = speculative.model
    config["num_speculative_tokens"] = speculative.tokens
    return json.dumps(config)
