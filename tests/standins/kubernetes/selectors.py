"""Label and field selectors, as queries and objects write them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.standins.kubernetes.refusal import Json, bad_request

Matches = Callable[[Json], bool]


def value_at(thing: Any, path: str) -> Any:
    """What is at `spec.replicas`; None where there is nothing."""
    for part in path.split("."):
        thing = thing.get(part) if isinstance(thing, dict) else None
    return thing


def by_labels(text: str) -> Matches:
    """`a=b,c!=d,e in (f,g),h,!i`."""
    tests: list[Matches] = []
    for part in re.findall(r"(?:[^,(]|\([^)]*\))+", text or ""):
        part = part.strip()
        if found := re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", part):
            key, values = found[1], {value.strip() for value in found[3].split(",")}
            if found[2] == "in":
                tests.append(lambda labels, key=key, values=values: labels.get(key) in values)  # type: ignore[misc]
            else:
                tests.append(lambda labels, key=key, values=values: labels.get(key) not in values)  # type: ignore[misc]
        elif found := re.fullmatch(r"([^=!\s]+)\s*(==|=|!=)\s*([^=\s]*)", part):
            key, sign, value = found.groups()
            wanted = sign != "!="
            tests.append(
                lambda labels, key=key, value=value, wanted=wanted: (labels.get(key) == value) is wanted  # type: ignore[misc]
            )
        elif found := re.fullmatch(r"(!?)([^=!\s]+)", part):
            key, there = found[2], not found[1]
            tests.append(lambda labels, key=key, there=there: (key in labels) is there)  # type: ignore[misc]
        else:
            raise bad_request(f"unable to parse requirement: {part}")
    return lambda thing: all(test((thing["metadata"].get("labels")) or {}) for test in tests)


def by_fields(text: str) -> Matches:
    """`metadata.name=a,status.phase!=Running`."""
    tests: list[tuple[str, bool, str]] = []
    for part in filter(None, (text or "").split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if found is None:
            raise bad_request(f"invalid field selector: {part}")
        tests.append((found[1], found[2] != "!=", found[3]))
    return lambda thing: all(
        (str(value_at(thing, path) or "") == value) is wanted for path, wanted, value in tests
    )


def by_object(selector: Json | None) -> Matches:
    """A LabelSelector: matchLabels and matchExpressions."""
    parts = [f"{key}={value}" for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    for entry in (selector or {}).get("matchExpressions") or []:
        key, values = entry["key"], ",".join(entry.get("values") or [])
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[entry["operator"]]
        )
    return by_labels(",".join(parts))


def query_text(selector: Json | None) -> str:
    """A LabelSelector's matchLabels as a query writes them (what a Scale's status has)."""
    return ",".join(f"{key}={value}" for key, value in ((selector or {}).get("matchLabels") or {}).items())
