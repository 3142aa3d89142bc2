"""What TGI's and Ollama's clients ask besides answers: which models there are, and what they are.

Engines differ in what they tell of a model, so only what the gateway itself knows is said here; what clients can't
do without is empty, zero, or made from the name, as docs/fronts.md says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import UNSET as LEFT_OUT
from msgspec import Meta, Raw, UnsetType

from inferry import __version__
from inferry.core.request import CHAT, COMPLETIONS, EMBEDDINGS
from inferry.gateway.fronts.front import Models
from inferry.gateway.fronts.ollama_answer import rfc3339
from inferry.gateway.fronts.outer_body import reader
from inferry.gateway.gateway import Gateway
from inferry.gateway.public_names import unknown_model
from inferry.gateway.served import ServedDeployment

Json = dict[str, Any]

OLLAMA_VERSION = "0.33.0"
"""The version of Ollama whose API the fronts follow: clients ask for it to know what they may send."""
_NEVER = "9999-12-31T23:59:59Z"


class ShowRequest(msgspec.Struct, forbid_unknown_fields=True):
    model: Annotated[str, Meta(min_length=1)]
    verbose: bool | None = None
    system: Raw | UnsetType = LEFT_OUT
    template: Raw | UnsetType = LEFT_OUT
    options: Raw | UnsetType = LEFT_OUT
    """Ignored, as they only change what is shown."""


_read_show = reader(ShowRequest, {})


@dataclass(frozen=True, slots=True)
class Question:
    """Who asks, and what."""

    gateway: Gateway
    names: Sequence[str]
    """That the caller may know of."""
    models: Models
    body: bytes
    """Of a POST."""


def _tgi_info(question: Question) -> Json:
    name = question.models.chosen(COMPLETIONS)
    if name not in question.names:
        raise unknown_model(name, question.names)
    return {
        "model_id": name,
        "model_pipeline_tag": "text-generation",
        "max_best_of": 1,
        "router": "inferry",
        "version": __version__,
    }


def _ollama_version(_question: Question) -> Json:
    return {"version": OLLAMA_VERSION}


def _ollama_tags(question: Question) -> Json:
    """Each name that `model` may have."""
    return {"models": [_model(question.gateway, name) for name in question.names]}


def _ollama_running(question: Question) -> Json:
    """Those of them with a replica that takes requests."""
    gateway = question.gateway
    usable = [name for name in question.names if gateway.deployment_for(name).balancer.usable()]
    return {"models": [{**_model(gateway, name), "expires_at": _NEVER, "size_vram": 0} for name in usable]}


def _ollama_show(question: Question) -> Json:
    name = question.models.known(_read_show(question.body, question.models).model)
    if name not in question.names:
        raise unknown_model(name, question.names)
    deployment = question.gateway.deployment_for(name)
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(deployment),
        "model_info": {},
        "capabilities": _capabilities(deployment),
        "modified_at": rfc3339(question.gateway.created_wall_s),
    }


def _model(gateway: Gateway, name: str) -> Json:
    deployment = gateway.deployment_for(name)
    return {
        "name": name,
        "model": name,
        "modified_at": rfc3339(gateway.created_wall_s),
        "size": 0,
        # `ollama list` shows the first letters of it and fails without. It tells names apart, not weights.
        "digest": hashlib.sha256(deployment.name.encode()).hexdigest(),
        "details": _details(deployment),
    }


def _details(deployment: ServedDeployment) -> Json:
    return {
        "parent_model": "",
        "format": "",
        "family": "simulated" if deployment.spec.simulated else "",
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }


def _capabilities(deployment: ServedDeployment) -> list[str]:
    found: list[str] = []
    if CHAT.path in deployment.routes or COMPLETIONS.path in deployment.routes:
        found.append("completion")
    if EMBEDDINGS.path in deployment.routes:
        found.append("embedding")
    return found


_FILES = "which models there are, the deployment file says. To fetch or delete files, use 'inferry models'."
ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("/api/pull", "/api/create", "/api/copy", "/api/delete", "/api/push"), _FILES),
    "/api/embeddings": "use /api/embed, with 'input' instead of 'prompt'.",
}
"""Paths of Ollama's that are not here, and what does their work."""

Page = Callable[[Question], Json]
FRONT_PAGES: dict[str, Page] = {
    "/info": _tgi_info,
    "/api/version": _ollama_version,
    "/api/tags": _ollama_tags,
    "/api/ps": _ollama_running,
}
"""By GET. Each raises what a request for inference would: UnknownModel, InvalidRequest."""
FRONT_QUESTIONS: dict[str, Page] = {"/api/show": _ollama_show}
"""By POST."""
