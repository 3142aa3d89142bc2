"""Which keys may stand where in the deployment file: for hints in errors."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from inferry.core.deployment import ENGINE_TYPES, DeploymentFile
from inferry.core.runtime_settings import RUNTIME_TYPES


def section_at(at: tuple[str | int, ...], tree: Mapping[str, Any]) -> type[BaseModel] | None:
    """The type whose keys may stand directly below the path `at`, as the types say; None: no keys do."""
    kind: Any = DeploymentFile
    if len(at) >= 2 and at[0] == "deployments":
        deployment = tree["deployments"].get(at[1])
        kind = ENGINE_TYPES.get(str(deployment.get("engine"))) if isinstance(deployment, dict) else None
        at = at[2:]
    elif at[:1] == ("runtime",):
        settings = tree["runtime"]
        kind = RUNTIME_TYPES.get(str(settings.get("kind"))) if isinstance(settings, dict) else None
        at = at[1:]
    for part in at:
        kind = _below(kind, part)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _below(kind: Any, part: str | int) -> Any:
    """The type of what stands below the key, or at the index, `part` of a `kind`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        return None if field is None else _bare(field.annotation)
    return _bare(get_args(kind)[-1]) if get_origin(kind) in (dict, list) else None


def _bare(annotation: Any) -> Any:
    """`annotation` without what is checked about it, and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        options = [each for each in get_args(annotation) if each is not NoneType]
        return _bare(options[0]) if len(options) == 1 else None
    return annotation
