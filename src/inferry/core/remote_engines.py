"""Deployments of engines that someone else runs."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from inferry.core.deployment_base import DeploymentBase
from inferry.core.section import is_reference

_PRINTABLE = re.compile(r"[!-~]*")


class OpenAIDeployment(DeploymentBase):
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
