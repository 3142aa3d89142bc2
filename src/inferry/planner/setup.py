"""One way to run a model: engine, version, parallelism, formats and the engine's limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .architecture import WeightFormat

EngineName: TypeAlias = Literal["vllm", "sglang", "tensorrt_llm", "tgi", "ollama", "llamacpp"]
"""As in the deployment file."""

KvFormat: TypeAlias = Literal["bf16", "fp16", "fp32", "fp8", "int8", "nvfp4", "q8_0", "q4_0"]


@dataclass(frozen=True, slots=True)
class Setup:
    """What one replica is started with. None: the engine's own default for that version."""

    engine: EngineName
    engine_version: str | None = None
    """None: the newest that the planner knows."""
    weights: WeightFormat = "bf16"
    kv: KvFormat = "bf16"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: int = 1
    data_parallel: int = 1
    """Attention data parallelism within the replica."""
    memory_fraction: float | None = None
    max_model_tokens: int | None = None
    max_sequences: int | None = None
    max_batched_tokens: int | None = None
    chunked_prefill: bool | None = None
    cuda_graphs: bool = True
    context_parallel: int = 1
    """Decode context parallelism: KV of one sequence is spread over that many GPUs."""
    text_only: bool = False
    """A multimodal model without its vision tower."""

    @property
    def devices(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel
