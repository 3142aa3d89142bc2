"""Everything that is wrong with a deployment file, not only what shows first.

The types check what a section means only when its keys are right, and the whole file only when all sections are. So
what is wrong is put right in a copy (a key drops out, a deployment that can't do without it becomes a simulated one),
and the copy is checked again. What that finds is told, unless it speaks of a key that was put right: then it may come
from that alone.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Mapping, Set
from itertools import takewhile
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from inferry.core.config_sections import section_at
from inferry.core.config_wording import KeyPath, path_of
from inferry.core.deployment import DeploymentFile

ROUNDS_MAX = 3
"""Keys, then sections, then the whole file."""
MENDED_MAX = 200
"""With more wrong keys than that, later rounds are left out: nobody repairs these in one go."""
_CHARS_MAX = 100


def what_is_wrong(
    tree: Mapping[str, Any], context: Mapping[str, Any], unset: Set[KeyPath]
) -> list[ErrorDetails]:
    """What the types find wrong with `tree`; of what is around the values `unset`, which nobody knows, nothing."""
    told: list[ErrorDetails] = []
    mended: set[str] = set()
    current: dict[str, Any] = copy.deepcopy(dict(tree))
    for _ in range(ROUNDS_MAX):
        errors = _errors(current, context)
        told += [each for each in errors if not _is_near(unset, each) and not _follows(each, mended)]
        for each in errors:
            keys = _mend(current, each)
            if keys is None:
                return told
            mended |= keys
        if not errors or len(mended) > MENDED_MAX:
            break
    return told


def _errors(tree: dict[str, Any], context: Mapping[str, Any]) -> list[ErrorDetails]:
    try:
        DeploymentFile.model_validate(tree, context=dict(context))
    except ValidationError as error:
        return error.errors()
    return []


def _is_near(unset: Set[KeyPath], detail: ErrorDetails) -> bool:
    at = path_of(detail)
    return any(at == path[: len(at)] for path in unset)


def _follows(detail: ErrorDetails, mended: Set[str]) -> bool:
    """Whether it may come from a key that was put right: that is missing now, or is spoken of."""
    if mended and detail["type"] == "missing":
        return True
    words = [word[:_CHARS_MAX] for word in re.findall(r"[\w.-]+", detail["msg"])]
    # Also by a name like it: what was put right may be a slip for it.
    return any(difflib.get_close_matches(key[:_CHARS_MAX], words, n=1) for key in mended)


def _mend(tree: dict[str, Any], detail: ErrorDetails) -> set[str] | None:
    """Put it right; returns the keys that have another value for that. None: that can't be done."""
    at = path_of(detail)
    keys = [part for part in at if isinstance(part, str)][-1:]
    if detail["type"] == "missing":
        at = at[:-1]
    at = tuple(
        takewhile(lambda part: isinstance(part, str), at)
    )  # lists as a whole, so that indexes stay true
    while _is_required(at, tree):
        at = at[:-1]
    if at in ((), ("deployments",)):
        return None
    around: Any = tree
    for part in at[:-1]:
        around = around.get(part, {})
    if len(at) == 2 and at[0] == "deployments" and detail["loc"][-1] != "[key]":
        old = around.get(at[-1])
        aliases = old.get("aliases", []) if isinstance(old, dict) else []
        around[at[-1]] = {"engine": "simulated", "aliases": aliases}  # where it stood, under all its names
        return {key for key in keys if key != at[-1]}
    around.pop(at[-1], None)
    return {*keys, *(part for part in at[-1:] if isinstance(part, str))}


def _is_required(at: KeyPath, tree: dict[str, Any]) -> bool:
    section = section_at(at[:-1], tree) if at else None
    field = None if section is None else section.model_fields.get(str(at[-1]))
    return field is not None and field.is_required()
