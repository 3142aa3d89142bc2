"""The deployment file's types: what to serve, on what, for whom and how well.

Seconds, bytes and tokens are in the names. Every number has bounds, and every default says why. Reading the
YAML text, environment references and error wording are in core/config_file.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from inferry.core.filter_settings import Filter
from inferry.core.gateway_settings import Admin, Gateway, Ledger, Price, Queue, Tenant
from inferry.core.limits import Limits
from inferry.core.model_ref import SAMPLE_MODEL, ModelSource, parse_model_ref
from inferry.core.prompt_truth_settings import PromptTruth
from inferry.core.section import Section, is_reference

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_ALIAS = re.compile(r"[\w./:@+-]{1,200}", re.ASCII)
_TENANT = re.compile(r"[\w.@-]{1,64}", re.ASCII)
_PRINTABLE = re.compile(r"[!-~]*")


class Routing(Section):
    """How requests are spread over the replicas of one deployment."""

    policy: Literal["round_robin", "least_connections"] = Field(
        "least_connections",
        description="least_connections: the replica with the fewest running requests; round_robin: in turn.",
    )


class Health(Section):
    """When a replica counts as well."""

    interval_s: float = Field(2.0, ge=0.1, le=300, description="Between two probes of a running replica.")
    timeout_s: float = Field(2.0, ge=0.1, le=60, description="For one probe.")
    failures_max: int = Field(3, ge=1, le=100, description="Failed probes in a row until it is suspect.")


class Restart(Section):
    """What to do with an engine that ends by itself."""

    backoff_initial_s: float = Field(0.5, ge=0, le=300, description="Wait before the first restart.")
    backoff_max_s: float = Field(30.0, ge=0, le=3600, description="The wait doubles up to this.")
    crashes_max: int = Field(
        5,
        ge=0,
        le=1000,
        description="So many crashes within window_s are a crash loop: the replica stays down. "
        "0 and 1 mean: never restart.",
    )
    window_s: float = Field(120.0, gt=0, le=86400, description="See crashes_max.")


def _alias(value: str) -> str:
    if not _ALIAS.fullmatch(value):
        raise ValueError("use letters, digits and . / : @ + - _, 200 at most")
    return value


class _Deployment(Section):
    aliases: list[Annotated[str, AfterValidator(_alias)]] = Field(
        default_factory=list, max_length=100, description="More names that clients may send as `model`."
    )
    routing: Routing = Field(default_factory=lambda: Routing())
    health: Health = Field(default_factory=lambda: Health())
    queue: Queue = Field(default_factory=lambda: Queue())
    limits: Limits = Field(default_factory=lambda: Limits(), description="For all callers together.")
    price: Price = Field(default_factory=lambda: Price())
    filters: list[Filter] = Field(
        default_factory=list, max_length=1000, description="After those of `gateway: filters:`."
    )
    prompt_truth: PromptTruth | None = Field(
        None, description="Whether engines compute the prompts that they are sent. Left out: not checked."
    )

    @model_validator(mode="after")
    def _prompts_can_be_counted(self) -> _Deployment:
        truth = self.prompt_truth
        if truth is not None and truth.tokenizer is None and not isinstance(self, LlamaCppDeployment):
            raise ValueError(
                "'prompt_truth' needs 'tokenizer' with this engine: name the model's folder or its tokenizer.json"
            )
        return self


class _Managed(_Deployment):
    """A deployment whose engines Inferry starts itself."""

    replicas: int = Field(1, ge=1, le=256, description="Engine processes that serve this model.")
    restart: Restart = Field(default_factory=lambda: Restart())
    start_timeout_s: float = Field(
        600.0, gt=0, le=86400, description="From process start to the first answer; big models load slowly."
    )
    stop_grace_s: float = Field(
        10.0, ge=0, le=3600, description="Between asking a process to end and killing it."
    )


class LlamaCppDeployment(_Managed):
    """llama.cpp: embedded (the `local` extra) or a `llama-server` binary of your own."""

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
    extra_args: list[str] = Field(
        default_factory=list, max_length=200, description="More arguments for `binary`."
    )

    @field_validator("model")
    @classmethod
    def _model_is_source(cls, value: str) -> str:
        ref = parse_model_ref(value)
        if ref.source is ModelSource.HF and ref.file is None:
            raise ValueError(
                f"'{value}' is a whole repository: name the GGUF file in it, as in {value}/FILE.gguf"
            )
        return value

    @model_validator(mode="after")
    def _extra_args_need_binary(self) -> LlamaCppDeployment:
        if self.extra_args and self.binary is None:
            raise ValueError(
                "'extra_args' are for a llama-server of your own: name it in 'binary', or drop them"
            )
        return self


class OpenAIDeployment(_Deployment):
    """Engines that someone else runs and that speak the OpenAI API."""

    engine: Literal["openai"]
    model: str = Field(description="The model's name at these endpoints.", min_length=1, max_length=500)
    endpoints: list[str] = Field(
        min_length=1, max_length=256, description="Base URLs, each one replica: http://10.0.0.7:8000/v1"
    )
    api_key: SecretStr | None = Field(
        None, description="Key that the endpoints ask for, as a reference: ${OUTSIDE_API_KEY}."
    )

    ask_usage: bool = Field(
        True,
        description="Ask for token counts in streams (stream_options.include_usage), and keep the answer to that from "
        "clients that did not. false for servers that refuse it: their streams are counted by events.",
    )

    @field_validator("endpoints")
    @classmethod
    def _endpoints_are_urls(cls, value: list[str]) -> list[str]:
        for url in value:
            split_endpoint(url)
        if len(set(value)) != len(value):
            raise ValueError("an endpoint stands here twice")
        return value

    @field_validator("api_key", mode="before")
    @classmethod
    def _key_is_reference(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and not is_reference(value, info):
            raise ValueError("a key in the file would be stored in clear: write ${NAME} and set NAME outside")
        return value

    @field_validator("api_key")
    @classmethod
    def _key_fits_in_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not (key := value.get_secret_value()):
            raise ValueError("the key is empty: set the variable, or drop 'api_key' if none is asked for")
        if value is not None and not _PRINTABLE.fullmatch(key):
            raise ValueError("the key holds a space, a line break or a sign that no HTTP header can carry")
        return value


def split_endpoint(url: str) -> tuple[bool, str, int, str]:
    """(tls, host, port, base path without `/v1`) of an OpenAI base URL; raises ValueError."""
    # First, and without the URL: what stands in these parts may be a secret.
    if set("@?#") & set(url):
        raise ValueError("a base URL has no user, query or fragment: put a key into 'api_key'")
    if not _PRINTABLE.fullmatch(url):
        raise ValueError("a base URL has no spaces and only ASCII signs: write others as %XX")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"'{url}' is not a base URL: write http://HOST:PORT/v1") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{url}' is not a base URL: write http://HOST:PORT/v1")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"'{url}' has a port that is not 1 to 65535")
    tls = parts.scheme == "https"
    path = parts.path.rstrip("/")
    if not path.endswith("/v1"):
        raise ValueError(f"'{url}' must end in /v1")
    if port is None:
        port = 443 if tls else 80
    return tls, parts.hostname, port, path.removesuffix("/v1")


class SimulatedDeployment(_Managed):
    """No model at all: a process that speaks vLLM's API and makes up words, for tests and load."""

    engine: Literal["simulated"]
    model: str = Field(
        "simulated", max_length=500, description="Shown as the model's name; nothing is loaded."
    )
    context_tokens: int = Field(8192, ge=16, le=10_000_000, description="Longest prompt and answer together.")
    parallel: int = Field(64, ge=1, le=65536, description="Requests that run at the same time; more wait.")
    ttft_ms: float = Field(50.0, ge=0, le=600_000, description="Time to the first token, per request.")
    itl_ms: float = Field(5.0, ge=0, le=60_000, description="Time between two tokens of one request.")
    faults: bool = Field(
        False, description="Whether faults may be commanded over HTTP (POST /simulate/fault)."
    )


Deployment = Annotated[
    LlamaCppDeployment | OpenAIDeployment | SimulatedDeployment, Field(discriminator="engine")
]
ManagedDeployment = LlamaCppDeployment | SimulatedDeployment

ENGINE_TYPES: dict[str, type[_Deployment]] = {
    "llamacpp": LlamaCppDeployment,
    "openai": OpenAIDeployment,
    "simulated": SimulatedDeployment,
}


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            f"'{value}' can't be a deployment's name: use small letters, digits and . _ - (63 at most); "
            "other names for clients go into 'aliases'"
        )
    return value


def _tenant(value: str) -> str:
    if not _TENANT.fullmatch(value):
        raise ValueError(f"'{value}' can't be a tenant's name: use letters, digits and . _ - @ (64 at most)")
    return value


class DeploymentFile(Section):
    """The whole of `inferry.yaml`."""

    gateway: Gateway = Field(default_factory=lambda: Gateway())
    admin: Admin = Field(default_factory=lambda: Admin())
    ledger: Ledger = Field(default_factory=lambda: Ledger())
    tenants: dict[Annotated[str, AfterValidator(_tenant)], Tenant] = Field(
        default_factory=dict, max_length=100_000, description="By name; keys name their tenant."
    )
    deployments: dict[Annotated[str, AfterValidator(_name)], Deployment] = Field(
        min_length=1, max_length=1000, description="By name; clients send the name as `model`."
    )

    @model_validator(mode="after")
    def _names_are_clear(self) -> DeploymentFile:
        taken: dict[str, str] = {}
        for name, deployment in self.deployments.items():
            for public in (name, *deployment.aliases):
                if public in taken and taken[public] != name:
                    raise ValueError(f"'{public}' names both '{taken[public]}' and '{name}'")
                taken[public] = name
        return self

    @model_validator(mode="after")
    def _filters_are_clear(self) -> DeploymentFile:
        for name, deployment in self.deployments.items():
            taken: set[str] = set()
            for each in (*self.gateway.filters, *deployment.filters):
                if each.name in taken:
                    raise ValueError(f"two filters of '{name}' have the name '{each.name}'")
                taken.add(each.name)
                if each.guard is not None and each.guard not in self.deployments:
                    raise ValueError(
                        f"the filter '{each.name}' asks the guard '{each.guard}': no such deployment"
                    )
        return self

    def resolved_against(self, folder: Path) -> DeploymentFile:
        """The same, with relative `file:` models, binaries, certificates, term files and tokenizers made absolute below `folder`."""
        changed: dict[str, Deployment] = {}
        for name, deployment in self.deployments.items():
            filters = [each.resolved_against(folder) for each in deployment.filters]
            truth = deployment.prompt_truth and deployment.prompt_truth.resolved_against(folder)
            deployment = deployment.model_copy(update={"filters": filters, "prompt_truth": truth})
            if isinstance(deployment, LlamaCppDeployment):
                update: dict[str, str] = {}
                if deployment.model.startswith("file:"):
                    path = Path(parse_model_ref(deployment.model).name).expanduser()
                    update["model"] = f"file:{folder / path}"
                if deployment.binary is not None and "/" in deployment.binary:
                    update["binary"] = str(folder / Path(deployment.binary).expanduser())
                deployment = deployment.model_copy(update=update)
            changed[name] = deployment
        everywhere = [each.resolved_against(folder) for each in self.gateway.filters]
        gateway = self.gateway.model_copy(update={"filters": everywhere})
        admin = self.admin
        if gateway.tls is not None:
            gateway = gateway.model_copy(update={"tls": gateway.tls.resolved_against(folder)})
        if admin.tls is not None:
            admin = admin.model_copy(update={"tls": admin.tls.resolved_against(folder)})
        return self.model_copy(update={"deployments": changed, "gateway": gateway, "admin": admin})
