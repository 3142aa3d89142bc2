"""From the keys of the deployment file to the flags of `sglang serve`.

Spelled the same in all versions of engines/tables/sglang-*.json, where they were read.
"""

from __future__ import annotations

import json

from inferry.core.server_engines import SglangDeployment, Speculative

_TLS = "Inferry speaks plain HTTP to its engines; 'gateway: tls:' is for clients"

MANAGED_FLAGS = {
    "--model-path": "model",
    "--served-model-name": "",
    "--host": "",
    "--port": "",
    "--config": "Inferry hands over its key in that file; write the flags themselves here",
    "--api-key": "",
    "--enable-metrics": "",
    "--log-level": "name a logging configuration of your own in 'env': SGLANG_LOGGING_CONFIG_PATH",
    "--uvicorn-access-log-exclude-prefixes": "",
    "--ssl-keyfile": _TLS,
    "--ssl-certfile": _TLS,
    "--ssl-ca-certs": _TLS,
    "--tp-size": "tensor_parallel",
    "--pp-size": "pipeline_parallel",
    "--dp-size": "data_parallel",
    "--context-length": "context_tokens",
    "--max-running-requests": "parallel",
    "--chunked-prefill-size": "batched_tokens",
    "--max-prefill-tokens": "batched_tokens",
    "--mem-fraction-static": "memory_fraction",
    "--dtype": "dtype",
    "--quantization": "quantization",
    "--kv-cache-dtype": "kv_cache_dtype",
    "--disable-radix-cache": "prefix_caching",
    "--trust-remote-code": "trust_remote_code",
    "--enable-lora": "lora",
    "--lora-paths": "lora",
}
"""Not to be given as extra arguments, with the key to use instead."""

SPECULATIVE_FLAGS = dict.fromkeys(
    (
        "--speculative-algorithm",
        "--speculative-draft-model-path",
        "--speculative-num-steps",
        "--speculative-eagle-topk",
        "--speculative-num-draft-tokens",
    ),
    "speculative",
)
"""The same, where the file has `speculative`; else they are free, since SGLang has more ways than the file."""

_ALGORITHMS = {
    "ngram": "NGRAM",
    "draft_model": "STANDALONE",
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "mtp": "NEXTN",
}


def deployment_flags(deployment: SglangDeployment) -> list[str]:
    """The flags of all keys that are not left to SGLang, whose caches and chunks are on by default."""
    flags: list[str] = []
    for flag, count in (
        ("--tp-size", deployment.tensor_parallel),
        ("--pp-size", deployment.pipeline_parallel),
        ("--dp-size", deployment.data_parallel),
    ):
        if count > 1:
            flags += [flag, str(count)]
    for flag, value in (
        ("--context-length", deployment.context_tokens),
        ("--max-running-requests", deployment.parallel),
        ("--mem-fraction-static", deployment.memory_fraction),
        ("--dtype", deployment.dtype),
        ("--quantization", deployment.quantization),
        ("--kv-cache-dtype", deployment.kv_cache_dtype),
    ):
        if value is not None:
            flags += [flag, str(value)]
    flags += _prefill_flags(deployment)
    if deployment.prefix_caching is False:
        flags.append("--disable-radix-cache")
    if deployment.trust_remote_code:
        flags.append("--trust-remote-code")
    if deployment.lora or deployment.lora_live:
        flags.append("--enable-lora")
    if deployment.lora:
        flags += ["--lora-paths", *_lora_paths(deployment.lora)]
    if deployment.speculative is not None:
        flags += _speculative_flags(deployment.speculative)
    return flags


def _prefill_flags(deployment: SglangDeployment) -> list[str]:
    """One bound for a step's tokens in the file, two in SGLang: of one request's chunk, and of all prompts."""
    flags = []
    if deployment.chunked_prefill is False:
        flags += ["--chunked-prefill-size", "-1"]
    elif deployment.batched_tokens is not None:
        flags += ["--chunked-prefill-size", str(deployment.batched_tokens)]
    if deployment.batched_tokens is not None:
        flags += ["--max-prefill-tokens", str(deployment.batched_tokens)]
    return flags


def _lora_paths(adapters: dict[str, str]) -> list[str]:
    """As JSON where `name=path` would be split at the wrong place."""
    return [
        json.dumps({"lora_name": name, "lora_path": path}) if "=" in path else f"{name}={path}"
        for name, path in adapters.items()
    ]


def _speculative_flags(speculative: Speculative) -> list[str]:
    """One chain of guesses: SGLang counts the token that it checks from among the draft's, hence one more."""
    flags = ["--speculative-algorithm", _ALGORITHMS[speculative.method]]
    if speculative.model is not None:
        flags += ["--speculative-draft-model-path", speculative.model]
    if speculative.method == "ngram":
        return [*flags, "--speculative-num-draft-tokens", str(speculative.tokens)]
    flags += ["--speculative-num-steps", str(speculative.tokens), "--speculative-eagle-topk", "1"]
    return [*flags, "--speculative-num-draft-tokens", str(speculative.tokens + 1)]
