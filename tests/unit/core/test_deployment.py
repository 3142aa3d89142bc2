"""The deployment file's types: addresses, endpoints, names, and the JSON Schema for editors."""

from __future__ import annotations

import json
import re
from operator import gt, le, lt
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from inferry.cli.config import EXAMPLE
from inferry.core.config_file import parse_text
from inferry.core.deployment import ENGINE_TYPES, DeploymentFile
from inferry.core.deployment_base import Restart
from inferry.core.endpoint_urls import split_endpoint
from inferry.core.gateway_settings import Gateway, is_loopback, split_listen
from inferry.core.health_settings import Breaker, Health, Outliers


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
    ],
)
def test_listen_address_is_split(text: str, address: tuple[str, int]) -> None:
    """Host and port, with an IPv6 address out of its brackets."""
    assert split_listen(text) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("8000", "write it as HOST:PORT"),
        (":8000", "write it as HOST:PORT"),
        ("127.0.0.1:", "write it as HOST:PORT"),
        ("127.0.0.1:http", "write it as HOST:PORT"),
        ("127.0.0.1:-1", "write it as HOST:PORT"),
        ("127.0.0.1:٣", "write it as HOST:PORT"),
        ("127.0.0.1:65536", "the port must be 0 to 65535, not 65536"),
        ("::1:8000", "put an IPv6 address in brackets"),
    ],
)
def test_no_listen_address(text: str, why: str) -> None:
    """What is no address is told how one looks."""
    with pytest.raises(ValueError, match=why):
        split_listen(text)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.7", False),
        ("example.org", False),
        ("", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    """Only addresses that no other machine can reach count as loopback; unknown names do not."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize("listen", ["0.0.0.0:8000", "[::]:8000", "10.0.0.7:80", "gateway.example.org:80"])
def test_wide_address_must_be_meant(listen: str) -> None:
    """An address that others can reach is refused without keys, unless the file says that it is meant."""
    with pytest.raises(ValidationError, match="allow_unauthenticated: true"):
        Gateway(listen=listen)
    assert Gateway(listen=listen, allow_unauthenticated=True).port in (80, 8000)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://h:1/v1", (False, "h", 1, "")),
        ("http://h/v1/", (False, "h", 80, "")),
        ("https://h/v1", (True, "h", 443, "")),
        ("https://h:8443/a/b/v1", (True, "h", 8443, "/a/b")),
        ("http://[::1]:9/v1", (False, "::1", 9, "")),
        ("http://h/caf%C3%A9/v1", (False, "h", 80, "/caf%C3%A9")),
    ],
)
def test_endpoint_is_split(url: str, parts: tuple[bool, str, int, str]) -> None:
    """TLS, host, port and the path before /v1."""
    assert split_endpoint(url) == parts


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("h:1/v1", "is not a base URL"),
        ("ftp://h/v1", "is not a base URL"),
        ("http:///v1", "is not a base URL"),
        ("http://[::1/v1", "is not a base URL"),
        ("http://u:p@h/v1", "put a key into 'api_key'"),
        ("htp://u:p@h/v1", "put a key into 'api_key'"),
        ("http://u:p/w@h/v1", "put a key into 'api_key'"),
        ("htp://h/v1?key=p", "put a key into 'api_key'"),
        ("http://h/v1?key=x", "put a key into 'api_key'"),
        ("http://h/v1#x", "put a key into 'api_key'"),
        ("http://h:0/v1", "a port that is not 1 to 65535"),
        ("http://h:65536/v1", "a port that is not 1 to 65535"),
        ("http://h:x/v1", "a port that is not 1 to 65535"),
        ("http://h", "must end in /v1"),
        ("http://h/v2", "must end in /v1"),
        ("http://h/a b/v1", "write others as %XX"),
        ("http://h/caf\u00e9/v1", "write others as %XX"),
        ("http://h/\r\nX-Evil:1/v1", "write others as %XX"),
    ],
)
def test_no_endpoint(url: str, why: str) -> None:
    """What could not be asked, or would break the request line, is refused; a password is not repeated."""
    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        split_endpoint(url)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://big.openai.azure.com/", (True, "big.openai.azure.com", 443, "")),
        ("https://big.openai.azure.com/openai/", (True, "big.openai.azure.com", 443, "")),
        ("http://h:1/proxy", (False, "h", 1, "/proxy")),
        ("http://h:1/openai/v1", (False, "h", 1, "/openai")),
    ],
)
def test_azure_endpoint_is_split(url: str, parts: tuple[bool, str, int, str]) -> None:
    """Where /v1 is not needed, a resource's own address will do, as the portal shows it."""
    assert split_endpoint(url, needs_v1=False) == parts


def test_azure_endpoints_with_their_deployment_are_told_apart() -> None:
    """A URL that names the deployment, or the resource without the version, says which key is meant."""
    with pytest.raises(ValueError, match="put its name into 'model'"):
        split_endpoint("https://big.openai.azure.com/openai/deployments/gpt", needs_v1=False)
    with pytest.raises(ValueError, match=r"must end in /v1 \(at Azure without it: set 'api_version'\)"):
        split_endpoint("https://big.openai.azure.com")


@pytest.mark.parametrize("name", ["a", "7", "chat-2.x_y", "a" * 63])
def test_names(name: str) -> None:
    """Names that are clear in a URL, a label and a file name."""
    config = DeploymentFile.model_validate({"deployments": {name: {"engine": "simulated"}}})
    assert list(config.deployments) == [name]


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a/b", "..", "a b", "ü", "a" * 64, "a\n"])
def test_no_names(name: str) -> None:
    """Names that are none elsewhere are none here."""
    with pytest.raises(ValidationError, match="can't be a deployment's name"):
        DeploymentFile.model_validate({"deployments": {name: {"engine": "simulated"}}})


def test_an_alias_may_repeat_its_own_name_only() -> None:
    """Two deployments never answer to the same name, be it name or alias."""
    own = {"a": {"engine": "simulated", "aliases": ["a", "x", "x"]}}
    assert DeploymentFile.model_validate({"deployments": own})
    for other in ({"engine": "simulated", "aliases": ["x"]}, {"engine": "simulated", "aliases": ["a"]}):
        with pytest.raises(ValidationError, match="names both 'a' and 'b'"):
            DeploymentFile.model_validate({"deployments": {**own, "b": other}})


# --- JSON Schema --------------------------------------------------------------------------------------

_KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
_NOTES = {"title", "description", "default", "examples", "format", "writeOnly", "$defs", "discriminator"}


def faults(schema: dict[str, Any], value: Any, root: dict[str, Any], at: str = "$") -> list[str]:
    """Where `value` does not fit; knows the keywords that this schema uses, and refuses all others."""
    found: list[str] = []
    for word, rule in schema.items():
        match word:
            case "$ref":
                found += faults(root["$defs"][rule.removeprefix("#/$defs/")], value, root, at)
            case "type" if rule == "integer":
                found += [] if isinstance(value, int) and not isinstance(value, bool) else [at]
            case "type" if rule == "number":
                found += [] if isinstance(value, int | float) and not isinstance(value, bool) else [at]
            case "type":
                found += [] if isinstance(value, _KINDS[rule]) else [at]
            case "anyOf" | "oneOf":
                fitting = [option for option in rule if not faults(option, value, root, at)]
                found += [] if len(fitting) == 1 or (fitting and word == "anyOf") else [at]
            case "properties":
                for name in rule.keys() & value.keys():
                    found += faults(rule[name], value[name], root, f"{at}.{name}")
            case "additionalProperties" if rule is False:
                found += [f"{at}.{name}" for name in value.keys() - schema.get("properties", {}).keys()]
            case "additionalProperties":
                for name in value:
                    found += faults(rule, value[name], root, f"{at}.{name}")
            case "required":
                found += [f"{at}.{name}" for name in rule if name not in value]
            case "items":
                for index, item in enumerate(value):
                    found += faults(rule, item, root, f"{at}[{index}]")
            case "const":
                found += [] if value == rule else [at]
            case "enum":
                found += [] if value in rule else [at]
            case "minimum" | "exclusiveMinimum" | "maximum":
                out = {"minimum": lt, "exclusiveMinimum": le, "maximum": gt}[word]
                found += [at] if isinstance(value, int | float) and out(value, rule) else []
            case "minLength" | "minItems" | "minProperties":
                found += [at] if isinstance(value, str | list | dict) and len(value) < rule else []
            case "maxLength" | "maxItems" | "maxProperties":
                found += [at] if isinstance(value, str | list | dict) and len(value) > rule else []
            case "pattern":
                found += [at] if isinstance(value, str) and not re.search(rule, value) else []
            case _:
                assert word in _NOTES, f"the checker does not know '{word}'"
    return found


FULL: dict[str, Any] = {
    "gateway": {"listen": "127.0.0.1:8000", "body_max_bytes": 2048},
    "deployments": {
        "chat": {"engine": "llamacpp", "model": "file:m.gguf", "replicas": 2, "threads": None},
        "out": {"engine": "openai", "model": "m", "endpoints": ["http://h/v1"], "api_key": "${KEY}"},
        "sim": {"engine": "simulated", "routing": {"policy": "round_robin"}, "health": {"timeout_s": 1}},
    },
}


def test_schema_accepts_what_the_loader_accepts() -> None:
    """The example that `inferry init` writes and a file with every engine fit the schema for editors."""
    schema = json.loads(json.dumps(DeploymentFile.model_json_schema()))
    example = yaml.safe_load(EXAMPLE)
    for value in (example, FULL):
        assert faults(schema, value, schema) == []
        parse_text(json.dumps(value), Path("inferry.yaml"), {"KEY": "k"})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gateway.colour", "red"),
        ("gateway.listen", 5),
        ("gateway.attempts_max", 0),
        ("deployments", {}),
        ("deployments.chat.engine", "vllm"),
        ("deployments.chat.replicas", "two"),
        ("deployments.chat.replicas", 257),
        ("deployments.out.endpoints", []),
        ("deployments.sim.routing.policy", "random"),
        ("deployments.sim.threads", 3),
    ],
)
def test_schema_refuses_what_the_loader_refuses(path: str, value: Any) -> None:
    """An editor underlines the same mistakes that `inferry config check` reports."""
    changed = json.loads(json.dumps(FULL))
    *parents, key = path.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[key] = value
    schema = DeploymentFile.model_json_schema()
    assert faults(schema, changed, schema)
    with pytest.raises(ValidationError):
        DeploymentFile.model_validate(changed)


@pytest.mark.parametrize("engine", sorted(ENGINE_TYPES))
def test_every_number_and_list_has_bounds(engine: str) -> None:
    """No count, time or list of a deployment is without an upper limit."""
    schema = ENGINE_TYPES[engine].model_json_schema()
    sections = [schema, *schema.get("$defs", {}).values(), Gateway.model_json_schema()]
    unbounded = []
    for section in sections:
        for name, field in section["properties"].items():
            for option in field.get("anyOf", [field]):
                if option.get("type") in ("integer", "number") and "maximum" not in option:
                    unbounded.append(name)
                if option.get("type") == "array" and "maxItems" not in option:
                    unbounded.append(name)
    assert unbounded == []


def test_a_bound_below_a_default_is_no_contradiction() -> None:
    """Only what is written contradicts: a lower `stuck_after_s` alone is taken, and works before the default."""
    assert Health(stuck_after_s=1).hand_over_after_s == 2
    assert Breaker(open_max_s=1).open_s == 2


def test_a_number_above_the_default_of_its_bound_is_no_contradiction() -> None:
    """A wait alone has room, and its bound counts as left out; requests of a stuck engine may stay until it is
    killed, which is no later for that."""
    assert Breaker(open_s=120) == Breaker(open_s=120, open_max_s=120)
    assert Breaker(open_s=120).model_fields_set == {"open_s"}
    assert Outliers(aside_s=400).aside_max_s == 400
    assert Restart(backoff_initial_s=60).backoff_max_s == 60
    assert Restart(backoff_initial_s=1).backoff_max_s == 30
    assert Health(hand_over_after_s=3600).stuck_after_s == 10
