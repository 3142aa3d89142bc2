"""Writes what Inferry is made of as CycloneDX JSON (specification 1.6).

    python -m release.sbom FILE

The packages, versions and files' hashes are those of the runtime lock; who needs whom, and licences, are from the
installed packages' metadata. The same lock and environment give the same bytes: no time, and a serial number that
is made from the content.
"""

from __future__ import annotations

import json
import sys
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from inferry import __version__
from release.licences import licences
from release.lock import RUNTIME_LOCK, Pinned, read_lock


def needed(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The packages that an installed one asks for on this system, with these of its extras."""
    found: set[str] = set()
    for line in metadata.requires(name) or ():
        requirement = Requirement(line)
        if requirement.marker is None or any(
            requirement.marker.evaluate({"extra": extra}) for extra in {"", *extras}
        ):
            found.add(canonicalize_name(requirement.name))
    return found


def closure(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """All that an installed package needs, and what that needs; without itself. Extras that a dependency asks of
    another are followed."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(name), extras)]
    while waiting:
        package, wanted = waiting.pop()
        if (package, wanted) in seen:
            continue
        seen.add((package, wanted))
        for line in metadata.requires(package) or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *wanted}):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return {package for package, _ in seen} - {canonicalize_name(name)}


def sbom(lock: Path = RUNTIME_LOCK) -> dict[str, Any]:
    """The document."""
    pinned = read_lock(lock)
    expressions = {each.name: each.expression for each in licences(lock)}
    always = closure("inferry")
    names = {each.name for each in pinned}
    of_us = f"pkg:pypi/inferry@{__version__}"
    purls = {each.name: f"pkg:pypi/{each.name}@{each.version}" for each in pinned}
    extras = frozenset(metadata.metadata("inferry").get_all("Provides-Extra") or ())
    ours = {each for each in needed("inferry", extras) if each in names}
    depends = [{"ref": of_us, "dependsOn": sorted(purls[each] for each in ours)}]
    for each in pinned:
        theirs = needed(each.name) & names if each.here else set()
        depends.append({"ref": purls[each.name], "dependsOn": sorted(purls[name] for name in theirs)})
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": of_us,
                "name": "inferry",
                "version": __version__,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "purl": of_us,
            }
        },
        "components": [_component(each, expressions.get(each.name), each.name in always) for each in pinned],
        "dependencies": depends,
    }
    content = json.dumps(document, sort_keys=True)
    return {**document, "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"}


def _component(pinned: Pinned, expression: str | None, always: bool) -> dict[str, Any]:
    """One package. Its files' hashes are properties: `hashes` would say that they are all of one file."""
    purl = f"pkg:pypi/{pinned.name}@{pinned.version}"
    properties = [{"name": "inferry:lock:sha256", "value": each} for each in pinned.sha256]
    if pinned.marker is not None:
        properties.append({"name": "inferry:lock:marker", "value": pinned.marker})
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": pinned.name,
        "version": pinned.version,
        "scope": "required" if always else "optional",
        "purl": purl,
        "properties": properties,
    }
    if expression is not None:
        component["licenses"] = [{"expression": expression}]
    return component


def main(arguments: list[str]) -> int:
    """Write it."""
    if len(arguments) != 1:
        sys.stderr.write("error: which file? python -m release.sbom FILE\n")
        return 2
    Path(arguments[0]).write_text(json.dumps(sbom(), indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
