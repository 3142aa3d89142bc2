"""The wheel and the source archive as `make dist` builds them, and a fresh environment with only what the wheel asks for."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from release.sbom import closure

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Built:
    """What a build wrote."""

    wheel: Path
    sdist: Path


def build(source: Path, folder: Path, *targets: str) -> list[Path]:
    """Run the build backend as `make dist` does, without the network; the files that it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *targets],
        cwd=source, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(folder.iterdir())


def built(folder: Path) -> Built:
    """Both, of this checkout."""
    files = build(ROOT, folder)
    [wheel] = [path for path in files if path.suffix == ".whl"]
    [sdist] = [path for path in files if path.name.endswith(".tar.gz")]
    return Built(wheel, sdist)


def clean_venv(folder: Path, wheel: Path, *extras: str) -> Path:
    """A new environment with this wheel and, of what is installed here, only what its metadata asks for with these
    extras; its `bin`. A package that the wheel forgets to ask for is not there, though it is here.

    The dependencies are links to this environment's, which the locks have filled: no network, and a second instead
    of a minute.
    """
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    installed = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet",
         "--no-deps", "--no-index", str(wheel)],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stdout + installed.stderr
    [site] = folder.glob("lib/python*/site-packages")
    [about] = site.glob("inferry-*.dist-info")
    for name in sorted(_wanted(metadata.PathDistribution(about), frozenset(extras))):
        _link(metadata.distribution(name), site)
    return folder / "bin"


def _wanted(wheel: metadata.Distribution, extras: frozenset[str]) -> set[str]:
    """The packages that the wheel asks for, and what these need."""
    found: set[str] = set()
    for line in wheel.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            found |= {requirement.name, *closure(requirement.name, frozenset(requirement.extras))}
    return found


def _link(package: metadata.Distribution, site: Path) -> None:
    """Its files' outermost folders and files, except programs (`../../bin/...`)."""
    for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(package.locate_file(top))))
