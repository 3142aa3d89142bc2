"""Whether a tag at this commit says the version that the source says, and the change log knows it.

    python -m release.version

The version is written once, in src/inferry/__init__.py. Without a tag at the commit there is nothing to compare.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from packaging.version import InvalidVersion, Version

from release.lock import ROOT


def written(root: Path = ROOT) -> str:
    """The version that the source says. Raises ValueError when it says none."""
    text = (root / "src" / "inferry" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.M)
    if found is None:
        raise ValueError('src/inferry/__init__.py has no line __version__ = "..."')
    return found[1]


def tags_here(root: Path = ROOT) -> list[str]:
    """The release tags (v and a digit) at the commit; none outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "tag", "--points-at", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return [tag for tag in done.stdout.split() if re.match(r"v\d", tag)]


def problems(root: Path = ROOT) -> list[str]:
    """What is wrong, each with the way out; empty: nothing."""
    version = written(root)
    try:
        shortest = str(Version(version))
    except InvalidVersion:
        return [f"__version__ '{version}' is not a version that pip understands, such as 1.2.0 or 1.2.0rc1"]
    if shortest != version:
        return [f"__version__ '{version}' is written '{shortest}' by pip: write it so"]
    tags = tags_here(root)
    wrong = [
        f"tag '{tag}' is at this commit, and __version__ is '{version}'"
        for tag in tags
        if tag != f"v{version}"
    ]
    if tags:
        log = (root / "CHANGELOG.md").read_text(encoding="utf-8")
        if not re.search(rf"^## \[?{re.escape(version)}\]?(?: |$)", log, re.M):
            wrong.append(f"CHANGELOG.md has no heading '## {version}': move what is under Unreleased there")
    return wrong


def main() -> int:
    """Say the version, or what is wrong."""
    wrong = problems()
    for each in wrong:
        sys.stderr.write(f"error: {each}\n")
    if not wrong:
        sys.stdout.write(f"{written()}\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
