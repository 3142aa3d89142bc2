"""Says under which licence each locked runtime dependency is, and fails at one that is unknown or not allowed.

    python -m release.licences [LOCK]

Read from the installed packages' own metadata: License-Expression, else License, else the classifiers. What may be,
and what was looked at by hand, is in licences.yaml beside this file. Packages of the lock that this system does not
get (their markers say so) are named and not judged.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from release.lock import ROOT, RUNTIME_LOCK, Pinned, read_lock

ALLOWED = Path(__file__).with_name("licences.yaml")
SAYS_NOTHING = ("", "UNKNOWN")
TEXT_MAX = 100  # characters; some packages put the whole licence into the field


@dataclass(frozen=True, slots=True)
class Licence:
    """One package's. `expression`: in SPDX words; None: unknown. `problem`: why it can't stay so."""

    name: str
    version: str
    expression: str | None
    problem: str | None = None


def rules() -> dict[str, Any]:
    """licences.yaml."""
    found: dict[str, Any] = yaml.safe_load(ALLOWED.read_text(encoding="utf-8"))
    return found


def said(about: metadata.PackageMetadata) -> str | None:
    """What a package says of its licence, in its own words; None: nothing, or several things."""
    if "License-Expression" in about:
        return about["License-Expression"]
    text = about["License"].strip() if "License" in about else ""
    if text not in SAYS_NOTHING and len(text) <= TEXT_MAX and "\n" not in text:
        return text
    known = [
        each.rpartition(" :: ")[2]
        for each in about.get_all("Classifier") or ()
        if each.startswith("License ::")
    ]
    return known[0] if len(known) == 1 else None


def judge(pinned: Pinned, says: str | None, rule: dict[str, Any]) -> Licence:
    """A package by what it says."""
    looked_at = rule["packages"].get(pinned.name)
    if looked_at is not None:
        if looked_at["says"] == says:
            return Licence(pinned.name, pinned.version, looked_at["is"])
        return Licence(
            pinned.name,
            pinned.version,
            None,
            f"said '{looked_at['says']}' when it was looked at, now '{says}'",
        )
    if says is None:
        return Licence(pinned.name, pinned.version, None, "its metadata names no licence, or several")
    expression = rule["words"].get(says, says)
    if not _may_be(expression, rule["allowed"].__contains__):
        return Licence(pinned.name, pinned.version, expression, f"'{expression}' is not allowed")
    return Licence(pinned.name, pinned.version, expression)


def _may_be(expression: str, allowed: Callable[[str], bool]) -> bool:
    """Of an SPDX expression: all that are joined by AND, or one of those joined by OR. One with brackets or WITH is
    for a person to read, so it is not allowed by itself."""
    if re.search(r"[()]| WITH ", expression):
        return allowed(expression)
    return any(all(map(allowed, part.split(" AND "))) for part in expression.split(" OR "))


def licences(lock: Path = RUNTIME_LOCK) -> list[Licence]:
    """Of each package of the lock that this system gets."""
    rule = rules()
    found: list[Licence] = []
    for pinned in read_lock(lock):
        if not pinned.here:
            continue
        try:
            about = metadata.metadata(pinned.name)
        except metadata.PackageNotFoundError:
            found.append(
                Licence(pinned.name, pinned.version, None, "not installed here: make setup installs it")
            )
            continue
        found.append(judge(pinned, said(about), rule))
    return found


def main(arguments: list[str]) -> int:
    """Print them; exit code 1 if one has a problem."""
    lock = Path(arguments[0]) if arguments else RUNTIME_LOCK
    found = licences(lock)
    for each in found:
        sys.stdout.write(f"{each.name:40} {each.version:14} {each.expression or '?'}\n")
    elsewhere = [each.name for each in read_lock(lock) if not each.here]
    if elsewhere:
        sys.stdout.write(f"not for this system, so not judged: {', '.join(elsewhere)}\n")
    wrong = [f"{each.name} {each.version}: {each.problem}" for each in found if each.problem]
    if wrong:
        place = ALLOWED.relative_to(ROOT)
        lines = "\n  ".join(wrong)
        sys.stderr.write(
            f"error: {len(wrong)} licence(s) to look at; what is allowed is in {place}:\n  {lines}\n"
        )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
