"""Schemas of kinds that are not Kubernetes' own, from the CRDs that their projects publish, and stricter than those:
a field that is not in the schema is an error here, as a server with field validation says it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

_FOLDER = Path(__file__).parents[2].parent / "shared"


def crd_folder() -> Path:
    """Where the CRDs are; skips the test, with the reason, where they are not here."""
    folder = Path(os.environ.get("INFERRY_SHARED", _FOLDER), "data", "schemas", "crds")
    if not folder.is_dir():
        pytest.skip("the CRDs of Gateway API, KEDA and the Prometheus operator are not here (INFERRY_SHARED)")
    return folder


@cache
def _schemas(folder: Path) -> dict[tuple[str, str], Any]:
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
            if document is None or document.get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                schema = _strict(version["schema"]["openAPIV3Schema"], top=True)
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def _strict(schema: Any, *, top: bool = False) -> Any:
    """OpenAPI's dialect as JSON Schema has it."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            made[key] = {name: _strict(each) for name, each in value.items()}
        elif not key.startswith("x-kubernetes") and key not in ("description", "default", "format"):
            made[key] = _strict(value)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["type"] = ["integer", "string"]
    plain = schema.get("type") == "object" and "properties" in schema
    if (
        plain
        and "additionalProperties" not in schema
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        made["additionalProperties"] = False
        if top:
            made["properties"]["metadata"] = {"type": "object"}
    return made


def check_custom(document: dict[str, Any]) -> None:
    """Fails where a custom object has what its CRD does not know; KeyError for a kind without one."""
    schema = _schemas(crd_folder())[document["apiVersion"], document["kind"]]
    jsonschema.Draft7Validator(schema).validate(document)
