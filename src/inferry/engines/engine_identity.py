"""Which engine answers at a URL: told by the pages that only it has. Pure: questions go out, answers come in."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Question:
    """One HTTP request, below the base URL without `/v1`. With a body it is a POST."""

    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; status 0: nothing, and `body` says why."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in small letters."""

    @property
    def fields(self) -> dict[str, Any]:
        """Of its JSON object; empty if it is none, or no success."""
        if self.status != 200:
            return {}
        try:
            found = msgspec.json.decode(self.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


Asking = Generator[Question, Reply, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """`engine` as in the deployment file; `inferry` for a gateway of ours, `unknown` for any other server."""

    engine: str
    version: str | None
    models: tuple[str, ...]
    simulated: bool
    wants_key: bool
    """It refuses to list its models to us."""


def identify() -> Generator[Question, Reply, Identity]:
    """Asks at most seven pages; all of them are cheap."""
    listed = yield Question("/v1/models")
    models = _models(listed)
    owner = _owner(listed)
    simulated = "x-inferry-simulated" in listed.headers or owner == "inferry-simulated"

    def found(engine: str, version: object = None) -> Identity:
        return Identity(
            engine, None if version is None else str(version), models, simulated, listed.status in (401, 403)
        )

    if "x-inferry-generation" in listed.headers:
        return found("inferry")
    version = (yield Question("/version")).fields
    if "version" in version:
        if owner == "tensorrt_llm":
            return found("tensorrt-llm", version["version"])
        if version.get("simulated"):
            simulated = True
            return found("simulated", version["version"])
        return found("vllm", version["version"])
    server = (yield Question("/server_info")).fields
    if "version" in server and (
        owner == "sglang" or "tokenizer_path" in server or "internal_states" in server
    ):
        return found("sglang", server["version"])
    info = (yield Question("/info")).fields
    if "model_id" in info and "router" in info:
        return found("tgi", info.get("version"))
    props = yield Question("/props")
    if owner == "llamacpp" or "build_info" in props.fields:
        return found("llamacpp", props.fields.get("build_info"))
    ollama = (yield Question("/api/version")).fields
    if "version" in ollama:
        return found("ollama", ollama["version"])
    described = yield Question("/openapi.json")
    if described.status == 200 and b'"/load_model"' in described.body and b'"/reset"' in described.body:
        return found("transformers")
    return found("unknown")


def _listing(reply: Reply) -> list[dict[str, Any]]:
    data = reply.fields.get("data")
    return [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []


def _models(reply: Reply) -> tuple[str, ...]:
    return tuple(str(each["id"]) for each in _listing(reply) if each.get("id"))


def _owner(reply: Reply) -> str | None:
    owners = [each.get("owned_by") for each in _listing(reply)]
    return str(owners[0]) if owners else None
