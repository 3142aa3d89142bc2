"""The deployment file of a plan: settings with their reasons, ready for `inferry config check` and `inferry up`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from inferry.cli.plan_model import PlannedModel
from inferry.cli.plan_text import TITLES, duration, slo_text
from inferry.core.errors import ConfigError
from inferry.planner.architecture import Architecture
from inferry.planner.capacity import ttft_quantile
from inferry.planner.checkpoints import GGUF_ENGINES
from inferry.planner.recommend import Option
from inferry.planner.setup import EngineName, Setup
from inferry.planner.wish import Wish

_KV_WORDS: dict[EngineName, str] = {
    "vllm": "fp8",
    "sglang": "fp8_e4m3",
    "tensorrt_llm": "fp8",
    "tgi": "fp8_e4m3fn",
    "ollama": "q8_0",
}
_NO_NAME = re.compile(r"[^a-z0-9._-]+")
_GIVEN_LIMITS: tuple[EngineName, ...] = ("vllm", "sglang", "tensorrt_llm", "tgi")
"""Those that are told how much memory to use and how many tokens to compute per step."""


def write_file(path: Path, text: str, *, force: bool) -> None:
    """Raises ConfigError where there is a file already, and where none can be written."""
    if path.exists() and not force:
        raise ConfigError(
            f"{path} is there already. Give another name to --write, or --force to overwrite it."
        )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror or error}") from error


def file_text(model: PlannedModel, option: Option, wish: Wish) -> str:
    """The whole file. Raises ConfigError where the option's weights are none that a file could name.

    Replicas of one host each see GPUs of their own.
    """
    arch, sized, setup = model.architecture, option.sized, option.sized.setup
    served = _served(model, option)
    name = name_of(arch.name)
    here = min(sized.replicas, max(sized.candidate.hardware.device.devices_per_host_max // setup.devices, 1))
    lines = [*_head(arch, option, wish, here), "gateway:", "  listen: 127.0.0.1:8000", "", "deployments:"]
    lines += [f'  {name}:    # clients send this as "model"', *_deployment(served, option, here)]
    return "\n".join(lines) + "\n"


def name_of(model: str) -> str:
    """`llama-3.1-8b-instruct`, as a deployment may be called."""
    short = _NO_NAME.sub("-", model.rstrip("/").rsplit("/", 1)[-1].lower()).strip("._-")
    return short[:63].rstrip("._-") or "model"


def _head(arch: Architecture, option: Option, wish: Wish, here: int) -> list[str]:
    sized, found, share = option.sized, option.sized.at_load, wish.slo.percentile
    tail = ttft_quantile(found, share)
    load = "as much load as it carries"
    if wish.users is not None:
        load = f"{wish.users} user{'s' if wish.users > 1 else ''} at once"
    elif wish.requests_per_s is not None:
        load = f"{wish.requests_per_s:g} requests/s"
    lines = [
        "# Written by 'inferry plan'. Check it with 'inferry config check', see its commands with 'inferry up --dry-run'.",
        f"# {arch.name} for {load}, {wish.input_tokens} tokens in and {wish.output_tokens} out: {slo_text(wish.slo)}.",
        f"# Planned: {sized.devices} x {sized.candidate.hardware.device.name}; predicted at that load: "
        f"{share:.0%} have their first token by {duration(tail.value)} ({duration(tail.low)} to {duration(tail.high)}), then "
        f"{duration(found.itl_ms.value)} per token ({duration(found.itl_ms.low)} to {duration(found.itl_ms.high)}).",
    ]
    if not option.good:
        lines.append("# This does NOT keep what was asked; it came nearest.")
    if here < sized.replicas:
        full, rest = divmod(sized.replicas, here)
        lines.append(
            f"# The plan has {sized.replicas} replicas; one host takes {here}: start this on {_hosts(full)}"
            + (f", and on one more with 'replicas: {rest}' and as many of the gpus." if rest else ".")
        )
    if sized.setup.engine in GGUF_ENGINES and here > 1:
        lines.append(
            f"# Each replica sees all of the GPUs, and {TITLES[sized.setup.engine]} chooses among them: see with nvidia-smi that "
            f"each has {sized.setup.devices} of its own, as planned."
        )
    if note := sized.candidate.source.note:
        lines.append(f"# Quality: {note}.")
    return lines


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def _served(model: PlannedModel, option: Option) -> str:
    """How the deployment names its model."""
    source, engine = option.sized.candidate.source, option.sized.setup.engine
    if engine == "ollama" and model.ollama and (model.architecture.made_of or source.format == "gguf"):
        return model.ollama
    if source.to_find or (engine in GGUF_ENGINES and not model.gguf):
        raise ConfigError(
            f"--write: no file is known here that has {model.architecture.name} in {source.format} for {TITLES[engine]}: find or "
            "make it, and plan it by its own name or path. The plan itself holds for such a file."
        )
    return model.source if source.repo is None else f"hf:{source.repo}"


def _deployment(served: str, option: Option, replicas: int) -> list[str]:
    sized, setup = option.sized, option.sized.setup
    source = sized.candidate.source
    rows: list[tuple[str, str]] = [
        (f"engine: {setup.engine.replace('_', '-')}", ""),
        (f"model: {served}", ""),
        (f"replicas: {replicas}", ""),
        *_gpus(option, replicas),
        *_split(setup),
        (
            f"context_tokens: {setup.max_model_tokens}",
            f"longest prompt and answer; the KV cache holds {sized.memory.kv_tokens:,} tokens in all (predicted)",
        ),
        (f"parallel: {setup.max_sequences}", "at once; as many as keep the SLO and fit into the KV cache"),
    ]
    told = setup.engine in _GIVEN_LIMITS
    if told and setup.max_batched_tokens is not None:
        rows.append((f"batched_tokens: {setup.max_batched_tokens}", "per step; memory was planned with it"))
    if told and setup.memory_fraction is not None:
        rows.append(
            (
                f"memory_fraction: {setup.memory_fraction:g}",
                "as planned; the rest is for what engines don't count",
            )
        )
    if source.cast:
        rows.append(("dtype: float16", "this device has no bf16"))
    if source.at_load:
        rows.append(
            (f"quantization: {setup.weights}", "made while loading; compare answers with the original's")
        )
    if setup.kv not in ("bf16", "fp16", "fp32"):
        rows.append((f"kv_cache_dtype: {_KV_WORDS[setup.engine]}", "half the KV cache; compare long answers"))
    return [f"    {key}{f'    # {reason}' if reason else ''}" for key, reason in rows]


def _gpus(option: Option, replicas: int) -> Sequence[tuple[str, str]]:
    """Ollama and llama.cpp put a model on the GPUs that they see; Apple's chips have no numbers."""
    setup = option.sized.setup
    if setup.engine == "llamacpp" or option.sized.candidate.hardware.device.kind != "gpu":
        return []
    numbers = ", ".join(map(str, range(replicas * setup.devices)))
    shared = setup.engine == "ollama" and replicas > 1
    return [(f"gpus: [{numbers}]", "seen by all replicas" if shared else f"{setup.devices} for each replica")]


def _split(setup: Setup) -> Sequence[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if setup.engine not in _GIVEN_LIMITS:
        return rows
    if setup.tensor_parallel > 1:
        rows.append((f"tensor_parallel: {setup.tensor_parallel}", "GPUs that share each layer"))
    if setup.pipeline_parallel > 1:
        rows.append((f"pipeline_parallel: {setup.pipeline_parallel}", "groups of layers"))
    return rows
