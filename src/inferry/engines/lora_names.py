"""How a request names a LoRA adapter: to us as `chat/law`, to each engine in its own way."""

from __future__ import annotations

from collections.abc import Iterable

from inferry.core.deployment import Deployment
from inferry.core.server_engines import SglangDeployment, TgiDeployment, VllmDeployment


def lora_models(name: str, deployment: Deployment, adapters: Iterable[str] | None = None) -> dict[str, str]:
    """What clients send as `model` for each adapter of the deployment `name`, and what its engine wants there.
    `adapters`: left out, those of the file.

    vLLM lists adapters as models of their own (docs/features/lora.md); TGI takes any `model` but its own for an
    adapter; SGLang wants `base:adapter`. TensorRT-LLM has no name for one in OpenAI's fields: nothing.
    """
    if adapters is None:
        adapters = getattr(deployment, "lora", ())
    match deployment:
        case VllmDeployment() | TgiDeployment():
            return {f"{name}/{adapter}": adapter for adapter in adapters}
        case SglangDeployment():
            return {f"{name}/{adapter}": f"{name}:{adapter}" for adapter in adapters}
        case _:
            return {}
