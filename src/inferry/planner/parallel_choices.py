"""How a model may be laid over several devices: the degrees of parallelism that its shape and the engine allow.

Engines refuse the others when they load the model, after minutes. Sources: vLLM 0.33 (`config/parallel.py`,
`layers/linear.py`, `quantization/utils/fp8_utils.py`), SGLang 0.5.23 (`layers/linear.py`), TGI 3.3 (`utils/weights.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from .architecture import Architecture, DenseMlp, Experts, FullAttention, LatentAttention, WeightFormat
from .facts.engine_support import engine_support
from .setup import EngineName

SCALE_BLOCKS: dict[WeightFormat, int] = {"awq": 128, "gptq": 128, "int4": 128, "fp8_block": 128, "nvfp4": 16}
"""Weights that share one scale: a device's part of a matrix must be whole groups. Where the checkpoint says another
group size, that counts."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """Of one replica. `expert` is over the same devices as `tensor`: experts are spread, their columns are not split."""

    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    data: int = 1

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data


def parallel_choices(
    arch: Architecture, engine: EngineName, devices: int, weights: WeightFormat | None = None
) -> tuple[Parallel, ...]:
    """All ways to use exactly `devices`, widest tensor parallelism first; empty if there is none.

    Engines that split by layers (llama.cpp, Ollama) have one: a pipeline of that many.
    """
    if engine_support()[engine].split == "layers":
        return (Parallel(pipeline=devices),) if devices <= arch.layers else ()
    found: list[Parallel] = []
    for tensor in range(devices, 0, -1):
        pipeline, left = divmod(devices, tensor)
        if left or (pipeline > 1 and pipeline_problem(arch, engine, pipeline) is not None):
            continue
        for expert in (1, tensor) if tensor > 1 else (1,):
            if tensor_problem(arch, engine, tensor, weights, expert=expert) is None:
                found.append(Parallel(tensor, pipeline, expert))
    return tuple(found)


def pipeline_problem(arch: Architecture, engine: EngineName, degree: int) -> str | None:
    """Why layers can't be split into `degree` stages; None if they can."""
    facts = engine_support()[engine]
    if "pipeline" not in facts.parallelism and facts.split != "layers":
        return f"{facts.title} has no pipeline parallelism"
    if degree > arch.layers:
        return f"{arch.layers} layers are too few for {degree} stages"
    return None


def tensor_problem(
    arch: Architecture,
    engine: EngineName,
    degree: int,
    weights: WeightFormat | None = None,
    *,
    expert: int = 1,
) -> str | None:
    """Why a layer can't be split over `degree` devices; None if it can. `expert` above 1 spreads experts whole.

    Worked: 28 heads over 8 devices is a problem, over 4 it is none; FP8 blocks of 128 don't fit 1,536 columns over 8.
    """
    facts = engine_support()[engine]
    if degree == 1:
        return None
    if facts.split == "layers":
        return f"{facts.title} splits by layers, not within them"
    for group in arch.groups:
        if (
            problem := _heads_problem(group.attention, degree, own_kv=facts.split == "tensor_kv")
        ) is not None:
            return problem
        if isinstance(group.mlp, Experts):
            problem = _experts_problem(
                group.mlp, arch, facts.title, facts.parallelism, degree, weights, expert
            )
        elif isinstance(group.mlp, DenseMlp):
            problem = _columns_problem("MLP", group.mlp.intermediate, degree, _block(arch, weights))
        if problem is not None:
            return problem
    if expert > 1 and not any(isinstance(group.mlp, Experts) for group in arch.groups):
        return "the model has no experts to spread"
    return None


def _heads_problem(attention: object, degree: int, *, own_kv: bool) -> str | None:
    if not isinstance(attention, FullAttention | LatentAttention):
        return None
    if attention.heads % degree:
        return f"{attention.heads} attention heads can't be shared evenly by {degree}"
    if isinstance(attention, FullAttention):
        kv_heads = attention.kv_heads
        # Where devices outnumber KV heads, engines keep copies: each head on as many devices as it takes.
        if kv_heads % degree and (own_kv or degree % kv_heads):
            return f"{kv_heads} KV heads can't be shared evenly by {degree}"
    return None


def _experts_problem(
    mlp: Experts,
    arch: Architecture,
    title: str,
    parallelism: tuple[str, ...],
    degree: int,
    weights: WeightFormat | None,
    expert: int,
) -> str | None:
    block = _block(arch, weights)
    if expert > 1:
        if "expert" not in parallelism:
            return f"{title} has no expert parallelism"
        if mlp.count % expert:
            return f"{mlp.count} experts can't be shared evenly by {expert}"
    elif (problem := _columns_problem("expert", mlp.intermediate, degree, block)) is not None:
        return problem
    if mlp.shared_intermediate:
        return _columns_problem("shared expert", mlp.shared_intermediate, degree, None)
    return None


def _columns_problem(what: str, columns: int, degree: int, block: int | None) -> str | None:
    if columns % degree:
        return f"{columns:,} {what} columns can't be shared evenly by {degree}"
    if block is not None and (columns // degree) % block:
        return f"{columns // degree:,} {what} columns per device are no whole groups of {block} that share a scale"
    return None


def _block(arch: Architecture, weights: WeightFormat | None) -> int | None:
    format_ = arch.native_format if weights is None else weights
    default = SCALE_BLOCKS.get(format_)
    if default is None or format_ != arch.native_format or arch.group_size is None:
        return default
    return arch.group_size
