"""Deployments of engines that someone else runs."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from inferry.core.deployment_base import DeploymentBase
from inferry.core.endpoint_urls import is_v1, key_by_reference, key_for_a_header, split_endpoint
from inferry.core.section import is_reference

_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,100}")
_HEADER_VALUE = re.compile(r"[ -~]*")
_OUR_HEADERS = re.compile(
    r"(accept|content|transfer)-(encoding|length|type)|connection|expect|host|te|trailer|upgrade|"
    r"x-request-id|traceparent|tracestate",
    re.IGNORECASE,
)


class OpenAIDeployment(DeploymentBase):
    """Engines that someone else runs and that speak the OpenAI API, Azure's way of it included."""

    engine: Literal["openai"]
    model: str = Field(
        description="The model's name at these endpoints; at Azure, its deployment's.",
        min_length=1,
        max_length=500,
    )
    api_version: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9.-]{1,40}$",
        description="Sent as ?api-version=. For Azure; with endpoints that don't end in /v1, its classic paths: "
        "/openai/deployments/MODEL/chat/completions.",
        examples=["2024-10-21"],
    )
    endpoints: list[str] = Field(
        min_length=1,
        max_length=256,
        description="Base URLs, each one replica: http://10.0.0.7:8000/v1; "
        "with api_version also https://RESOURCE.openai.azure.com",
    )
    weights: dict[str, Annotated[float, Field(gt=0, le=1000)]] = Field(
        default_factory=dict,
        description="How much an endpoint can take beside the others, by its URL as written in 'endpoints'; those that "
        "are not named have 1. For all routing policies but round_robin.",
    )
    api_key: SecretStr | None = Field(
        None, description="Key that the endpoints ask for, as a reference: ${OUTSIDE_API_KEY}."
    )
    key_header: Literal["authorization", "api-key"] = Field(
        "authorization",
        description="authorization: the key goes as a bearer token; api-key: in that header, as Azure has it.",
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict,
        max_length=20,
        description="More headers for each request, with values as references: ${NAME}.",
    )
    ask_usage: bool = Field(
        True,
        description="Ask for token counts in streams (stream_options.include_usage), and keep the answer to that from "
        "clients that did not. false for servers that refuse it: their streams are counted by events.",
    )
    gives_finish_reason: bool = Field(
        True,
        description="A stream that ends without a finish_reason has failed. false for servers that never give one: "
        "then an answer that breaks off in order can't be told from a whole one.",
    )

    @property
    def runs_elsewhere(self) -> bool:
        return True

    @property
    def has_classic_paths(self) -> bool:
        """Whether the endpoints speak Azure's classic API, without `/v1`."""
        return self.api_version is not None and not is_v1(self.endpoints[0])

    @field_validator("endpoints")
    @classmethod
    def _endpoints_are_urls(cls, value: list[str], info: ValidationInfo) -> list[str]:
        for url in value:
            split_endpoint(url, needs_v1=info.data.get("api_version") is None)
        if len(set(value)) != len(value):
            raise ValueError("an endpoint stands here twice")
        if len({is_v1(url) for url in value}) > 1:
            raise ValueError("either all of them end in /v1, or none: Azure's two APIs differ")
        return value

    @field_validator("weights")
    @classmethod
    def _weights_are_of_endpoints(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        for url in value:
            if url not in info.data.get("endpoints", (url,)):
                raise ValueError(
                    "a weight is for a URL that is not in 'endpoints': write it as it stands there"
                )
        return value

    @field_validator("api_key", mode="before")
    @classmethod
    def _key_is_reference(cls, value: object, info: ValidationInfo) -> object:
        return key_by_reference(value, info)

    @field_validator("api_key")
    @classmethod
    def _key_fits_in_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        return key_for_a_header(value)

    @field_validator("headers", mode="before")
    @classmethod
    def _headers_are_references(cls, value: object, info: ValidationInfo) -> object:
        for name, each in value.items() if isinstance(value, dict) else ():
            if not is_reference(each, info):
                raise ValueError(f"the value of '{name}' would be stored in clear: write ${{NAME}}")
        return value

    @field_validator("headers")
    @classmethod
    def _headers_fit(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, each in value.items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"'{name}' can't be a header's name")
            if _OUR_HEADERS.fullmatch(name):
                raise ValueError(f"'{name}' is Inferry's own to set: drop it")
            if not _HEADER_VALUE.fullmatch(text := each.get_secret_value()) or text != text.strip():
                raise ValueError(f"the value of '{name}' holds a sign that no HTTP header can carry")
        return value

    @model_validator(mode="after")
    def _one_key(self) -> OpenAIDeployment:
        names = [name.lower() for name in self.headers]
        if self.api_key is not None and self.key_header in names:
            raise ValueError(f"'api_key' is sent in the header '{self.key_header}' already: drop one of them")
        if len(set(names)) != len(names):
            raise ValueError("a header stands in 'headers' twice")
        return self
