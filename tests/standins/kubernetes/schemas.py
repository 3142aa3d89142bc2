"""Judges objects: Kubernetes' own kinds by the published schemas, custom ones by their definitions, both strictly."""

from __future__ import annotations

import copy
import json
import os
import re
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from referencing import Registry, Resource

from tests.standins.kubernetes.kinds import Kind
from tests.standins.kubernetes.refusal import Json, bad_request, invalid

VERSION = "1.37"
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
# Names of these may hold other characters, as Kubernetes allows it.
_FREE_NAMES = {"roles", "rolebindings", "clusterroles", "clusterrolebindings"}


def definitions_folder() -> Path:
    """Where CustomResourceDefinitions lie as data: beside the repository, or where INFERRY_SHARED says."""
    shared = os.environ.get("INFERRY_SHARED")
    place = Path(shared) if shared else Path(__file__).parents[4] / "shared"
    return place / "data" / "schemas" / "crds"


@lru_cache(maxsize=1)
def known_definitions() -> tuple[Json, ...]:
    """The definitions of that folder; none where it is not there."""
    folder = definitions_folder()
    found: list[Json] = []
    for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else []:
        for document in yaml.load_all(path.read_text(), _YAML):
            if document and document.get("kind") == "CustomResourceDefinition":
                found.append(document)
    return tuple(found)


@lru_cache(maxsize=1)
def _published() -> Any:
    root = resources.files("kubernetes_validate").joinpath("kubernetes-json-schema")
    return next(
        path
        for path in root.iterdir()
        if re.fullmatch(rf"v{re.escape(VERSION)}\.\d+-local-strict", path.name)
    )


@lru_cache(maxsize=1)
def _registry() -> Any:
    shared = json.loads(_published().joinpath("_definitions.json").read_text())
    empty: Any = Registry()
    return Resource.from_contents(shared) @ empty


@lru_cache(maxsize=200)
def _built_in_validator(kind: Kind) -> Any:
    group = kind.group.split(".")[0]
    name = f"{kind.kind.lower()}-{group + '-' if group else ''}{kind.version}.json"
    path = _published().joinpath(name)
    if not path.is_file():
        return None
    schema = json.loads(path.read_text())
    resource = Resource.from_contents(schema)
    return jsonschema.Draft202012Validator(schema, registry=resource @ _registry())


def _plain(schema: Json) -> bool:
    """An object with named fields and no others."""
    open_ = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    return schema.get("type") == "object" and "properties" in schema and not open_


def strict(schema: Any) -> Any:
    """An openAPIV3Schema as a JSON schema that refuses what it does not name."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    out = {
        key: value
        for key, value in schema.items()
        if not key.startswith("x-")
        and key not in {"format", "description", "nullable", "default", "properties"}
    }
    for key in ("items", "additionalProperties", "not"):
        if key in out:
            out[key] = strict(out[key])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in out:
            out[key] = [loose(item) for item in out[key]]
    if "properties" in schema:
        out["properties"] = {key: strict(value) for key, value in schema["properties"].items()}
    if schema.get("x-kubernetes-int-or-string"):
        out.pop("anyOf", None)
        out["type"] = ["integer", "string"]
    elif _plain(schema):
        out["additionalProperties"] = False
    if schema.get("nullable") and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    return out


def loose(schema: Any) -> Any:
    """A branch of allOf and its kind names only some fields: it forbids none."""
    if isinstance(schema, dict):
        return {
            key: loose(value)
            for key, value in schema.items()
            if not key.startswith("x-") and key not in {"description", "format", "default"}
        }
    return [loose(item) for item in schema] if isinstance(schema, list) else schema


def _custom_validator(kind: Kind) -> Any:
    key = (kind.group, kind.version, kind.plural, id(kind.schema))
    if key not in _CUSTOM:
        schema = copy.deepcopy(strict(kind.schema))
        properties = schema.setdefault("properties", {})
        properties.update(
            {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
        )
        # The schema itself is kept too: its id stays its own.
        _CUSTOM[key] = (jsonschema.Draft202012Validator(schema), kind.schema)
    return _CUSTOM[key][0]


_CUSTOM: dict[tuple[str, str, str, int], Any] = {}


def _path(parts: Any) -> str:
    said = ""
    for part in parts:
        said += f"[{part}]" if isinstance(part, int) else f".{part}"
    return said.lstrip(".")


def judge(kind: Kind, thing: Json, metadata: Json | None = None) -> None:
    """Refuse what Kubernetes would: 400 for unknown fields and wrong types, 422 for the rest."""
    validator = _custom_validator(kind) if kind.custom else _built_in_validator(kind)
    name = str((thing.get("metadata") or {}).get("name") or "")
    if validator is not None:
        unknown: list[str] = []
        typed: list[str] = []
        causes: list[tuple[str, str]] = []
        for error in validator.iter_errors(thing):
            where = _path(error.absolute_path)
            if error.validator == "additionalProperties":
                known = set(error.schema.get("properties", {}))
                extra = [key for key in error.instance if key not in known]
                unknown += [f'unknown field "{(where + "." if where else "") + key}"' for key in extra]
            elif error.validator == "type":
                typed.append(f"{where}: Invalid type. {error.message}")
            elif error.validator == "required":
                missing = error.message.split("'")[1]
                causes.append((f"{where}.{missing}".lstrip("."), "Required value"))
            else:
                causes.append((where or "<nil>", f"Invalid value: {error.message[:300]}"))
        if unknown:
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"strict decoding error: {', '.join(sorted(unknown))}"
            )
        if typed and not kind.custom:
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"json: cannot unmarshal: {'; '.join(typed)}"
            )
        causes += [(text.split(":")[0], text.partition(": ")[2]) for text in typed]
        if causes:
            raise invalid(kind.kind, name, causes, kind.group)
    causes = _names(kind, thing) + _sense(kind, thing)
    if causes:
        raise invalid(kind.kind, name, causes, kind.group)


def _names(kind: Kind, thing: Json) -> list[tuple[str, str]]:
    metadata = thing.get("metadata") or {}
    name = str(metadata.get("name") or "")
    wrong = []
    pattern = _LABEL if kind.plural in {"services", "namespaces"} else _NAME
    length = 63 if pattern is _LABEL else 253
    if kind.plural not in _FREE_NAMES and (not pattern.fullmatch(name) or len(name) > length):
        which = "1123 label" if pattern is _LABEL else "1123 subdomain"
        wrong.append(
            (
                "metadata.name",
                f'Invalid value: "{name}": a lowercase RFC {which} must consist of lower case alphanumeric characters',
            )
        )
    for key, value in (metadata.get("labels") or {}).items():
        if not _VALUE.fullmatch(str(value)) or len(str(value)) > 63:
            wrong.append(("metadata.labels", f'Invalid value: "{value}": a valid label must be ... ({key})'))
    return wrong


def pod_spec(kind: Kind, thing: Json) -> tuple[str, Json] | None:
    """Where a kind keeps its pods' spec, and that."""
    spec = thing.get("spec") or {}
    if kind.plural == "pods":
        return "spec", spec
    if kind.plural == "cronjobs":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
        return "spec.jobTemplate.spec.template.spec", (spec.get("template") or {}).get("spec") or {}
    if kind.group in {"apps", "batch"} and "template" in spec:
        return "spec.template.spec", (spec["template"] or {}).get("spec") or {}
    return None


def _sense(kind: Kind, thing: Json) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    spec = thing.get("spec") or {}
    if kind.group == "apps" and "selector" in spec:
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        wanted = (spec["selector"] or {}).get("matchLabels") or {}
        if any(labels.get(key) != value for key, value in wanted.items()):
            text = f"Invalid value: {json.dumps(labels)}: `selector` does not match template `labels`"
            wrong.append(("spec.template.metadata.labels", text))
    found = pod_spec(kind, thing)
    if found is None:
        return wrong
    where, pod = found
    if not pod.get("containers"):
        wrong.append((f"{where}.containers", "Required value"))
    volumes = [volume["name"] for volume in pod.get("volumes") or []]
    volumes += [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or []]
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(pod.get(group) or []):
            here = f"{where}.{group}[{index}]"
            name = str(container.get("name", ""))
            if name in seen:
                wrong.append((f"{here}.name", f'Duplicate value: "{name}"'))
            seen.add(name)
            if not _LABEL.fullmatch(name) or len(name) > 63:
                wrong.append(
                    (f"{here}.name", f'Invalid value: "{name}": a lowercase RFC 1123 label must ...')
                )
            if not container.get("image"):
                wrong.append((f"{here}.image", "Required value"))
            for number, mount in enumerate(container.get("volumeMounts") or []):
                if mount["name"] not in volumes:
                    wrong.append((f"{here}.volumeMounts[{number}].name", f'Not found: "{mount["name"]}"'))
            for number, port in enumerate(container.get("ports") or []):
                if len(str(port.get("name", ""))) > 15:
                    text = f'Invalid value: "{port["name"]}": must be no more than 15 characters'
                    wrong.append((f"{here}.ports[{number}].name", text))
            for probe in ("livenessProbe", "startupProbe"):
                if (container.get(probe) or {}).get("successThreshold", 1) != 1:
                    wrong.append((f"{here}.{probe}.successThreshold", "Invalid value: must be 1"))
            resources_ = container.get("resources") or {}
            for key, value in (resources_.get("requests") or {}).items():
                limit = (resources_.get("limits") or {}).get(key)
                if limit is not None and quantity(value) > quantity(limit):
                    text = f'Invalid value: "{value}": must be less than or equal to {key} limit of {limit}'
                    wrong.append((f"{here}.resources.requests", text))
                if limit is None and "/" in key:
                    wrong.append((f"{here}.resources.limits[{key}]", "Required value: Limit must be set"))
    names = [*volumes]
    for name in {name for name in names if names.count(name) > 1}:
        wrong.append((f"{where}.volumes", f'Duplicate value: "{name}"'))
    return wrong


_SUFFIXES: dict[str, float] = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_SUFFIXES |= {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "": 1}


def quantity(text: Any) -> float:
    """A Kubernetes quantity as a number: 500m is 0.5, 1Ki is 1024."""
    found = re.fullmatch(r"([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)([A-Za-z]*)", str(text))
    if found is None or found[2] not in _SUFFIXES:
        raise bad_request(
            f"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$': {text}"
        )
    return float(found[1]) * _SUFFIXES[found[2]]
