"""The deployment file that is in force, with one deployment as another file had it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from pydantic import ValidationError

from inferry.core.config_file import KeyPath, LoadedFile
from inferry.core.deployment import DeploymentFile

T = TypeVar("T")


def with_deployment_of(now: LoadedFile, before: LoadedFile, name: str) -> LoadedFile:
    """`now`, with deployment `name` of `before`, and where its values came from: secrets must stay known as such.

    Raises ValueError, in words for people, if the two don't fit together, as when another one has its alias now.
    """
    deployments = {**now.config.deployments, name: before.config.deployments[name]}
    fields = {key: getattr(now.config, key) for key in now.config.model_fields_set}
    try:
        config = DeploymentFile(**{**fields, "deployments": deployments})
    except ValidationError as error:
        reasons = [found["msg"].removeprefix("Value error, ") for found in error.errors()]
        raise ValueError("; ".join(reasons)) from error
    mine = {at for at in before.from_environment if _is_of(at, name)}
    others = {at for at in now.from_environment if not _is_of(at, name)}
    return replace(
        now,
        config=config,
        lines=_mixed(now.lines, before.lines, name),
        references=_mixed(now.references, before.references, name),
        from_environment=frozenset(others | mine),
        variables=now.variables | before.variables,
    )


def _mixed(now: Mapping[KeyPath, T], before: Mapping[KeyPath, T], name: str) -> dict[KeyPath, T]:
    others = {at: value for at, value in now.items() if not _is_of(at, name)}
    return others | {at: value for at, value in before.items() if _is_of(at, name)}


def _is_of(at: KeyPath, name: str) -> bool:
    return at[:2] == ("deployments", name)
