"""Which adapter speaks for a deployment. A new engine is added here and nowhere else."""

from __future__ import annotations

from inferry.core.deployment import Deployment
from inferry.core.deployment_base import ManagedBase
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
from inferry.engines.attached import AttachedAdapter
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
    adapter = launcher_for(name, deployment)
    if isinstance(deployment, ManagedBase) and deployment.endpoints is not None:
        assert isinstance(adapter, LaunchableAdapter)
        return AttachedAdapter(name, deployment, adapter)
    return adapter


def launcher_for(name: str, deployment: Deployment) -> LaunchableAdapter | RemoteAdapter:
    """The same, but an engine that could be launched is, wherever the file says that it runs: for commands to show."""
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
