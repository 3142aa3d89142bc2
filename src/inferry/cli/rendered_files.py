"""Writes a target's files into its folder, and compares them with what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from inferry.core.errors import ConfigError
from inferry.render.shipment import Files

MARK = ".inferry-rendered"
"""Lists what we wrote into a folder: only those may be overwritten or removed the next time."""


def write_folder(folder: Path, files: Files) -> None:
    """Write `files`, and remove those of the last time that are no more. Raises ConfigError for a file of somebody else's."""
    before = _listed(folder)
    for name in files:
        if (folder / name).exists() and name not in before:
            raise ConfigError(
                f"{folder / name} is not ours: it was there before. Move it away, or choose another folder with --output"
            )
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())  # as it is: some files have the line ends of HTTP
        for name in before - set(files):
            (folder / name).unlink(missing_ok=True)
        (folder / MARK).write_text("\n".join(sorted(files)) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} can't be written: {error.strerror}") from error


def check_folder(folder: Path, files: Files, say: Callable[[str], None]) -> int:
    """How many files are not as they would be written; each is told."""
    names = sorted(set(files) | _listed(folder))
    stale = [name for name in names if _text(folder / name) != files.get(name)]
    for name in stale:
        say(f"{folder / name}: {'would be changed' if name in files else 'would be removed'}")
    return len(stale)


def _listed(folder: Path) -> set[str]:
    text = _text(folder / MARK) or ""
    # Never outside of the folder, whatever somebody wrote there.
    return {name for name in text.splitlines() if name and ".." not in Path(name).parts and name[0] != "/"}


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
