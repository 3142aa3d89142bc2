"""Which adapter speaks for a deployment. A new engine is added here and nowhere else."""

from __future__ import annotations

from inferry.core.deployment import Deployment
from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.core.remote_engines import OpenAIDeployment
from inferry.core.server_engines import (
    OllamaDeployment,
    SglangDeployment,
    TensorRtLlmDeployment,
    TgiDeployment,
    TransformersDeployment,
    VllmDeployment,
)
from inferry.engines.adapter import LaunchableAdapter, RemoteAdapter
from inferry.engines.llamacpp import LlamaCppAdapter
from inferry.engines.ollama import OllamaAdapter
from inferry.engines.openai import OpenAIAdapter
from inferry.engines.sglang import SglangAdapter
from inferry.engines.simulated import SimulatedAdapter
from inferry.engines.tensorrt_llm import TensorRtLlmAdapter
from inferry.engines.tgi import TgiAdapter
from inferry.engines.transformers_serve import TransformersAdapter
from inferry.engines.vllm import VllmAdapter


def adapter_for(name: str, deployment: Deployment) -> LaunchableAdapter | RemoteAdapter:
    """The adapter of the deployment called `name`: one that we launch, or one that others run."""
    match deployment:
        case LlamaCppDeployment():
            return LlamaCppAdapter(name, deployment)
        case OllamaDeployment():
            return OllamaAdapter(name, deployment)
        case OpenAIDeployment():
            return OpenAIAdapter(name, deployment)
        case SglangDeployment():
            return SglangAdapter(name, deployment)
        case SimulatedDeployment():
            return SimulatedAdapter(name, deployment)
        case TensorRtLlmDeployment():
            return TensorRtLlmAdapter(name, deployment)
        case TgiDeployment():
            return TgiAdapter(name, deployment)
        case TransformersDeployment():
            return TransformersAdapter(name, deployment)
        case VllmDeployment():
            return VllmAdapter(name, deployment)
