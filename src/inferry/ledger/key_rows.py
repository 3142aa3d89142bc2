"""A key as a row of the store, and back; what a key may be called."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import lru_cache
from typing import Any, get_args

from pydantic import ValidationError
from sqlalchemy import Row

from inferry.core.api_key import ApiKey, Scope
from inferry.core.errors import BadKeySetting, LedgerError
from inferry.core.limits import Limits, Priority
from inferry.core.suggest import did_you_mean

ID_MARK = "key_"
_TENANT = re.compile(r"[\w.@-]{1,64}", re.ASCII)  # as in the deployment file
_DEPLOYMENT = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")  # as in the deployment file
_NAME = re.compile(r"(?!key_|inf-)[\w.@-]{1,64}", re.ASCII)
SCOPES: tuple[Scope, ...] = get_args(Scope)
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


def row_of(key: ApiKey) -> dict[str, Any]:
    """The columns of a key; the text of before a rotation is not among them."""
    return {
        "id": key.id,
        "prefix": key.prefix,
        "digest": key.digest,
        "tenant": key.tenant,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "deployments": None if key.deployments is None else sorted(key.deployments),
        "limits": key.limits.model_dump(exclude_none=True),
        "priority": key.priority,
        "created_wall_s": key.created_wall_s,
        "expires_wall_s": key.expires_wall_s,
        "disabled": key.disabled,
    }


def key_of(row: Row[Any]) -> ApiKey:
    """The key in a row; LedgerError if another program wrote what this one does not know."""
    try:
        limits = _limits(tuple(sorted(row.limits.items())))
    except (ValidationError, TypeError, AttributeError) as error:
        raise LedgerError(
            f"The limits of key {row.id} can't be read: another version of Inferry may have set them."
        ) from error
    try:
        return _sound(_with_limits(row, limits))
    except (TypeError, ValueError) as error:
        raise LedgerError(
            f"Key {row.id} can't be read: something else than Inferry may have changed its row."
        ) from error


def _with_limits(row: Row[Any], limits: Limits) -> ApiKey:
    return ApiKey(
        id=row.id,
        prefix=row.prefix,
        digest=bytes(row.digest),
        tenant=row.tenant,
        name=row.name,
        scopes=_names(tuple(row.scopes)),
        deployments=None if row.deployments is None else _names(tuple(row.deployments)),
        limits=limits,
        priority=row.priority,
        created_wall_s=row.created_wall_s,
        expires_wall_s=row.expires_wall_s,
        disabled=bool(row.disabled),
    )


def _sound(key: ApiKey) -> ApiKey:
    """SQLite keeps any type in any column: one that would only be noticed at a request is noticed here."""
    for text in (
        key.id,
        key.prefix,
        key.tenant,
        key.name,
        key.priority,
        *key.scopes,
        *(key.deployments or ()),
    ):
        if not isinstance(text, str):
            raise TypeError(f"not a text: {type(text).__name__}")
    if not isinstance(key.expires_wall_s, float | int | None):
        raise TypeError("not a time")
    return key


# Keys that have the same limits or names share one object: ten thousand keys are then read, and sent to the gateway
# processes, in a fraction of the time.
@lru_cache(maxsize=4096)
def _limits(items: tuple[tuple[str, float], ...]) -> Limits:
    return Limits.model_validate(dict(items))


@lru_cache(maxsize=4096)
def _names(names: tuple[str, ...]) -> frozenset[Any]:
    return frozenset(names)


def usable_forms(row: Row[Any]) -> list[ApiKey]:
    """The key, and once more under its text of before the last rotation, which expires when its grace is over."""
    key = key_of(row)
    if row.former_digest is None:
        return [key]
    try:
        ends_wall_s = min(
            row.former_until_wall_s, math.inf if key.expires_wall_s is None else key.expires_wall_s
        )
        former = replace(
            key, prefix=row.former_prefix, digest=bytes(row.former_digest), expires_wall_s=ends_wall_s
        )
        return [key, _sound(former)]
    except (TypeError, ValueError) as error:
        raise LedgerError(f"The former text of key {row.id} can't be read.") from error


def check_key(key: ApiKey) -> None:
    """BadKeySetting if a name, scope or priority can't be."""
    if not _TENANT.fullmatch(key.tenant):
        raise BadKeySetting(
            f"'{key.tenant}' can't be a tenant's name: use letters, digits and . _ - @ (64 at most)",
            param="tenant",
        )
    if not _NAME.fullmatch(key.name):
        raise BadKeySetting(
            f"'{key.name}' can't be a key's name: use letters, digits and . _ - @ (64 at most), and begin with "
            "neither key_ nor inf-",
            param="name",
        )
    if not key.scopes:
        raise BadKeySetting(f"A key needs a scope: {', '.join(SCOPES)}", param="scopes")
    for scope in sorted(key.scopes - set(SCOPES)):
        raise BadKeySetting(f"'{scope}' is no scope.{did_you_mean(scope, SCOPES)}", param="scopes")
    if key.priority not in PRIORITIES:
        raise BadKeySetting(
            f"'{key.priority}' is no priority.{did_you_mean(key.priority, PRIORITIES)}", param="priority"
        )
    if key.deployments is not None and not key.deployments:
        raise BadKeySetting("A key needs a deployment that it may call, or all of them", param="deployments")
    for name in sorted(key.deployments or ()):
        if not _DEPLOYMENT.fullmatch(name):
            raise BadKeySetting(
                f"'{name}' can't be a deployment's name: those have small letters, digits and . _ - (63 at most)",
                param="deployments",
            )
