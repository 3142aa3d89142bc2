"""Reads a lock file of ours: which packages, in which versions, where, with which files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
RUNTIME_LOCK = ROOT / "src" / "inferry" / "render" / "gateway_lock.txt"
"""What Inferry runs on with every extra that its image has: the largest lock without tools of development."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """One package of a lock. `marker`: on which systems it is installed; None means on all. `sha256`: of every
    file that was published for the version."""

    name: str
    version: str
    marker: str | None
    sha256: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether this system and Python get it."""
        requirement = Requirement(f"{self.name} ; {self.marker}" if self.marker else self.name)
        return requirement.marker is None or requirement.marker.evaluate()


def read_lock(path: Path) -> list[Pinned]:
    """Its packages, by name. Raises ValueError at a line that is no exact version with hashes."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    found: list[Pinned] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        words, *hashes = line.split("--hash=sha256:")
        requirement = Requirement(words.strip())
        pins = [each for each in requirement.specifier if each.operator == "=="]
        if len(pins) != 1 or not hashes:
            raise ValueError(
                f"{path.name}: '{words.strip()}' is not one exact version with hashes: run make lock"
            )
        marker = None if requirement.marker is None else str(requirement.marker)
        name = canonicalize_name(requirement.name)
        found.append(Pinned(name, pins[0].version, marker, tuple(each.strip() for each in hashes)))
    return sorted(found, key=lambda each: each.name)
