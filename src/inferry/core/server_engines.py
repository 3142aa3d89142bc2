"""Deployments of engines that are programs of their own: vLLM, SGLang, TensorRT-LLM, TGI, transformers, Ollama.

What a key becomes on an engine's command line, and from which version on, is told by engines/.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from inferry.core.deployment_base import (
    ManagedBase,
    absolute_binary,
    absolute_model,
    absolute_source,
    variables,
)
from inferry.core.model_ref import ModelSource, parse_model_ref
from inferry.core.section import Section

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_ADAPTER = re.compile(r"[\w.-]{1,100}", re.ASCII)
_OLLAMA_MODEL = re.compile(r"[\w./-]{1,200}(:[\w.-]{1,100})?", re.ASCII)


def _word(value: str) -> str:
    if not _WORD.fullmatch(value):
        raise ValueError(f"'{value}' is not one of the engine's words: letters, digits and _ . : - only")
    return value


Word = Annotated[str, AfterValidator(_word)]


class Speculative(Section):
    """Speculative decoding: a cheap guess of the next tokens, checked by the model in one step."""

    method: Literal["ngram", "draft_model", "eagle", "eagle3", "mtp"] = Field(
        description="Where the guesses come from: the prompt, a small model, or heads trained for the model."
    )
    model: str | None = Field(
        None,
        max_length=500,
        description="The draft model or heads: a folder (/x, ./x or ~/x) or a hub id; not for ngram, mtp.",
    )
    tokens: int = Field(4, ge=1, le=64, description="Guessed per step.")

    @model_validator(mode="after")
    def _model_where_needed(self) -> Speculative:
        needs = self.method in ("draft_model", "eagle", "eagle3")
        if needs and self.model is None:
            raise ValueError(f"'{self.method}' needs 'model': the draft model or heads")
        if not needs and self.model is not None:
            raise ValueError(f"'{self.method}' takes no 'model': drop it")
        return self


class ProgramBase(ManagedBase):
    """An engine whose program the operator (or `inferry engines install`) provides."""

    binary: str | None = Field(
        None,
        max_length=1000,
        description="Path or name of its program. Left out: the one of `inferry engines install`, else on the PATH.",
    )
    version: str | None = Field(
        None,
        pattern=r"^\d+(\.\d+){1,2}([a-z0-9.+-]*)$",
        examples=["0.32.0"],
        description="The engine's version, for its flags and its image. Left out: as installed here, else the newest known.",
    )
    image: str | None = Field(
        None, max_length=500, description="Container image in place of the engine's own of that version."
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        max_length=200,
        description="More environment variables for the engine; secrets as references: ${NAME}.",
    )
    parallel: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="Requests that one replica computes at the same time. Left out: the engine's.",
    )

    @field_validator("env")
    @classmethod
    def _env_has_names(cls, value: dict[str, str]) -> dict[str, str]:
        return variables(value)

    def resolved_against(self, folder: Path) -> Self:
        update = {"binary": absolute_binary(self.binary, folder)}
        return super().resolved_against(folder).model_copy(update=update)


class ServerBase(ProgramBase):
    """An engine that serves a model of the Hugging Face kind: a folder with config.json and safetensors."""

    MODEL_FILES: ClassVar[str] = "a repository (hf:org/name[@revision]) or a folder (file:/path)"

    model: str = Field(
        description="hf:org/name[@revision], fetched into Inferry's store; or file:/folder.",
        examples=["hf:Qwen/Qwen3-8B"],
    )
    context_tokens: int | None = Field(
        None, ge=16, le=10_000_000, description="Longest prompt and answer together. Left out: the model's."
    )
    tensor_parallel: int = Field(1, ge=1, le=1024, description="GPUs that share each layer.")
    dtype: Word | None = Field(None, description="Of weights and activations. Left out: the model's.")
    quantization: Word | None = Field(
        None, description="In the engine's own word, as fp8 or awq. Left out: as the model's files say."
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Only for models that you trust."
    )
    gpus: list[Annotated[int, Field(ge=0, le=1023)]] | None = Field(
        None,
        max_length=1024,
        description="Indexes of the GPUs for this deployment. Where they are enough for several replicas, each sees GPUs of its own; else all see the same. Left out: all see all.",
    )
    extra_args: list[str] = Field(
        default_factory=list,
        max_length=200,
        description="More arguments, checked against the engine's flags.",
    )

    @field_validator("model")
    @classmethod
    def _model_is_folder(cls, value: str) -> str:
        ref = parse_model_ref(value)
        if ref.source not in (ModelSource.HF, ModelSource.FILE) or ref.file is not None:
            raise ValueError(f"'{value}' is one file: this engine wants {cls.MODEL_FILES}")
        return value

    @property
    def gpus_per_replica(self) -> int:
        """What its parallel keys want."""
        return self.tensor_parallel

    @property
    def gpu_seats(self) -> int:
        """For how many replicas `gpus` has GPUs of their own; at least 1."""
        return max(1, len(self.gpus or ()) // self.gpus_per_replica)

    def resolved_against(self, folder: Path) -> Self:
        update = {"model": absolute_model(self.model, folder)}
        return super().resolved_against(folder).model_copy(update=update)


class _GpuServer(ServerBase):
    pipeline_parallel: int = Field(1, ge=1, le=1024, description="Groups of layers, each on GPUs of its own.")
    memory_fraction: float | None = Field(
        None, gt=0, le=1, description="Share of the GPU's memory to take. Left out: the engine's."
    )
    batched_tokens: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="Tokens of all requests in one step at most. Left out: the engine's.",
    )
    chunked_prefill: bool | None = Field(
        None, description="Cut long prompts into steps. Left out: the engine's."
    )
    prefix_caching: bool | None = Field(
        None, description="Keep the KV cache of prompts for others that begin alike. Left out: the engine's."
    )
    kv_cache_dtype: Word | None = Field(None, description="As fp8. Left out: that of the model.")
    lora: dict[str, str] = Field(
        default_factory=dict,
        max_length=1000,
        description="LoRA adapters: name, and a folder (/x, ./x or ~/x) or hub id. Clients send NAME/ADAPTER as `model` (but not with TensorRT-LLM).",
    )
    speculative: Speculative | None = Field(None, description="Speculative decoding.")

    @property
    def gpus_per_replica(self) -> int:
        """Each copy of the model has its own groups of layers, and each group its own GPUs."""
        return self.tensor_parallel * self.pipeline_parallel

    @field_validator("lora")
    @classmethod
    def _lora_has_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if not _ADAPTER.fullmatch(name):
                raise ValueError(f"'{name}' can't be an adapter's name: use letters, digits and . _ -")
        return value

    def resolved_against(self, folder: Path) -> Self:
        update: dict[str, Any] = {
            "lora": {name: absolute_source(text, folder) for name, text in self.lora.items()}
        }
        if self.speculative is not None and self.speculative.model is not None:
            model = absolute_source(self.speculative.model, folder)
            update["speculative"] = self.speculative.model_copy(update={"model": model})
        return super().resolved_against(folder).model_copy(update=update)


class VllmDeployment(_GpuServer):
    """vLLM."""

    engine: Literal["vllm"]
    data_parallel: int = Field(1, ge=1, le=1024, description="Copies of the model inside one replica.")
    lora_live: bool = Field(
        False, description="Adapters may be loaded and dropped while it runs: 'inferry lora'."
    )

    @property
    def gpus_per_replica(self) -> int:
        """Those of each copy of the model."""
        return super().gpus_per_replica * self.data_parallel


class SglangDeployment(_GpuServer):
    """SGLang."""

    engine: Literal["sglang"]
    data_parallel: int = Field(1, ge=1, le=1024, description="Copies of the model inside one replica.")
    lora_live: bool = Field(
        False, description="Adapters may be loaded and dropped while it runs: 'inferry lora'."
    )

    @property
    def gpus_per_replica(self) -> int:
        """Those of each copy of the model."""
        return super().gpus_per_replica * self.data_parallel


class TensorRtLlmDeployment(_GpuServer):
    """TensorRT-LLM's own server."""

    engine: Literal["tensorrt-llm"]
    memory_fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share, for the KV cache, of what the weights leave free. Left out: the engine's.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        max_length=200,
        description="More keys of its configuration file (--config), as enable_attention_dp. They win.",
    )

    @model_validator(mode="after")
    def _one_adapter(self) -> TensorRtLlmDeployment:
        # tensorrt_llm/lora_manager.py expects a single folder, to learn the adapters' layout from.
        if len(self.lora) > 1:
            raise ValueError(
                "'lora' takes one adapter with this engine: the others are named in requests, by 'lora_request'"
            )
        return self


class TgiDeployment(ServerBase):
    """Hugging Face's Text Generation Inference, for fleets that have it: it only gets fixes since 2025-12."""

    engine: Literal["tgi"]
    memory_fraction: float | None = Field(
        None, gt=0, le=1, description="Share of the GPU's memory to take. Left out: the engine's."
    )
    batched_tokens: int | None = Field(
        None, ge=1, le=10_000_000, description="Prompt tokens in one step at most. Left out: the engine's."
    )
    prefix_caching: bool | None = Field(
        None, description="Keep the KV cache of prompts for others that begin alike. Left out: the engine's."
    )
    kv_cache_dtype: Word | None = Field(None, description="As fp8_e4m3fn. Left out: that of the model.")
    lora: dict[str, str] = Field(
        default_factory=dict,
        max_length=1000,
        description="LoRA adapters: name, and a folder (/x, ./x or ~/x) or hub id. Clients send NAME/ADAPTER as `model` (but not with TensorRT-LLM).",
    )
    speculative_tokens: int | None = Field(
        None, ge=1, le=64, description="Guessed per step, from the prompt or the model's own heads."
    )

    def resolved_against(self, folder: Path) -> Self:
        lora = {name: absolute_source(text, folder) for name, text in self.lora.items()}
        return super().resolved_against(folder).model_copy(update={"lora": lora})


class TransformersDeployment(ServerBase):
    """`transformers serve`: every model that transformers knows, at no particular speed."""

    engine: Literal["transformers"]
    device: Word | None = Field(None, description="As cpu or cuda:0. Left out: the engine's choice.")
    parallel: int = Field(1, ge=1, le=1, description="It computes one request after the other.")

    @model_validator(mode="after")
    def _no_more_than_it_can(self) -> TransformersDeployment:
        if self.context_tokens is not None:
            raise ValueError("'context_tokens' can't be set with this engine: it takes what the model takes")
        if self.tensor_parallel != 1:
            raise ValueError("'tensor_parallel' can't be set with this engine: it shares no layers out")
        return self

    @property
    def gpu_seats(self) -> int:
        """It spreads a large model over all that it sees."""
        return 1


class OllamaDeployment(ProgramBase):
    """Ollama."""

    engine: Literal["ollama"]
    model: str = Field(description="The model's name in Ollama's library.", examples=["llama3.2:1b"])
    context_tokens: int | None = Field(
        None,
        ge=16,
        le=10_000_000,
        description="Longest prompt and answer together. Left out: Ollama's, by memory.",
    )
    pull: bool = Field(True, description="Fetch the model at the start if it is not there.")
    models_folder: str | None = Field(
        None, max_length=1000, description="Where Ollama keeps its models. Left out: ~/.ollama/models."
    )
    kv_cache_dtype: Literal["f16", "q8_0", "q4_0"] | None = Field(None, description="Left out: Ollama's.")
    flash_attention: bool | None = Field(
        None, description="Left out: Ollama's choice; on with a kv_cache_dtype that needs it."
    )
    gpus: list[Annotated[int, Field(ge=0, le=1023)]] | None = Field(
        None,
        max_length=1024,
        description="Indexes of the GPUs that one replica may see; []: none. Left out: all.",
    )

    @field_validator("model")
    @classmethod
    def _model_is_a_name(cls, value: str) -> str:
        if not _OLLAMA_MODEL.fullmatch(value):
            raise ValueError(f"'{value}' is not a name in Ollama's library: write NAME[:TAG], as llama3.2:1b")
        return value

    @model_validator(mode="after")
    def _cache_needs_flash_attention(self) -> Self:
        if self.kv_cache_dtype not in (None, "f16") and self.flash_attention is False:
            raise ValueError(
                f"'kv_cache_dtype: {self.kv_cache_dtype}' has no effect without flash attention: drop one of them"
            )
        return self

    @property
    def gpu_count(self) -> int:
        """GPUs of one replica: 1 where the file does not say."""
        return 1 if self.gpus is None else len(self.gpus)

    def resolved_against(self, folder: Path) -> Self:
        models = self.models_folder and str(folder / Path(self.models_folder).expanduser())
        return super().resolved_against(folder).model_copy(update={"models_folder": models})
