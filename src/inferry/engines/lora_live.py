"""What to ask an engine for, to have it load or drop a LoRA adapter while it runs.

vLLM (entrypoints/serve/lora/api_router.py, 0.2x): POST /v1/load_lora_adapter and /v1/unload_lora_adapter, which exist
only with VLLM_ALLOW_RUNTIME_LORA_UPDATING and --enable-lora. SGLang (srt/entrypoints/http_server.py, 0.5): POST
/load_lora_adapter and /unload_lora_adapter, with --enable-lora. The others load adapters at their start alone;
llama.cpp can only scale those that it has.
"""

from __future__ import annotations

import json

from inferry.core.deployment import Deployment
from inferry.core.errors import LifecycleRefused
from inferry.core.server_engines import SglangDeployment, VllmDeployment
from inferry.engines.adapter import WarmupRequest

TIMEOUT_S = 120.0
"""An adapter is some 100 MB, read from a disk that may be far away."""


def load_call(name: str, deployment: Deployment, adapter: str, path: str) -> WarmupRequest:
    """Raises LifecycleRefused where an engine of this deployment can't."""
    body = {"lora_name": adapter, "lora_path": path}
    return _call(name, deployment, "load_lora_adapter", body)


def unload_call(name: str, deployment: Deployment, adapter: str) -> WarmupRequest:
    """The same."""
    return _call(name, deployment, "unload_lora_adapter", {"lora_name": adapter})


def _call(name: str, deployment: Deployment, verb: str, body: dict[str, str]) -> WarmupRequest:
    if not isinstance(deployment, VllmDeployment | SglangDeployment):
        if hasattr(deployment, "lora"):
            raise LifecycleRefused(
                f"'{name}' runs on {deployment.engine}, which loads adapters only when it starts: put it into "
                f"deployments.{name}.lora of the file, and Inferry replaces the replicas."
            )
        raise LifecycleRefused(
            f"'{name}' runs on {deployment.engine}, for which Inferry knows no LoRA adapters. While they run, vllm and "
            "sglang load them ('lora_live: true'); tgi and tensorrt-llm when they start ('lora' in the file)."
        )
    if not deployment.lora_live:
        raise LifecycleRefused(
            f"The engines of '{name}' were not started for it: set deployments.{name}.lora_live to true, and Inferry "
            "replaces them."
        )
    prefix = "/v1" if isinstance(deployment, VllmDeployment) else ""
    return WarmupRequest(f"{prefix}/{verb}", json.dumps(body).encode(), TIMEOUT_S)
