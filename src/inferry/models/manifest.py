"""The records of the store: what a source brought, and what is known of a model that is here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
FILES_FOLDER = "files"
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class StoredFile:
    path: str
    """Relative to the model's folder of files, with `/`."""
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source leaves in the area of unfinished pulls, complete and checked."""

    folder: Path
    """Holds `files` and nothing else."""
    files: tuple[StoredFile, ...]
    main: str | None
    """The file to serve, one of `files`; None: the folder as a whole is the model."""
    detail: str
    """Which version of the source this is, for people: a wheel's version, a commit, an ETag."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that is on this machine."""

    ref: str
    """As written, canonical; without a URL's password and query, which may be secrets."""
    path: Path
    """The file to serve, or the folder of a whole repository."""
    size_bytes: int
    sha256: str | None
    """Of the file; of several: of their list in the form of `sha256sum`. None: a `file:` model, not hashed."""
    detail: str
    fetched_wall_s: float | None
    """None: a `file:` model, which was never fetched."""
    folder: Path
    """What the paths of `files` are relative to."""
    files: tuple[StoredFile, ...] = ()
    """Empty for `file:` models."""


def fingerprint(files: Sequence[StoredFile]) -> str:
    """One sha256 for a model of one or more files."""
    if len(files) == 1:
        return files[0].sha256
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256(lines.encode()).hexdigest()


def write_manifest(folder: Path, ref_text: str, fetched: Fetched, wall_s: float) -> Path:
    """Writes the manifest of the model whose files lie (or will lie) in `folder`/files; returns its path."""
    tree = {
        "format": FORMAT,
        "ref": ref_text,
        "main": fetched.main,
        "sha256": fingerprint(fetched.files),
        "size_bytes": sum(file.size_bytes for file in fetched.files),
        "detail": fetched.detail,
        "fetched_wall_s": wall_s,
        "files": [
            {"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256}
            for file in fetched.files
        ],
    }
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    return path


def read_manifest(folder: Path) -> StoredModel | None:
    """The model that `folder` holds; None when there is no manifest of ours. Does not look at the files."""
    try:
        tree: Any = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
        if tree["format"] != FORMAT:
            return None
        files = folder / FILES_FOLDER
        return StoredModel(
            ref=str(tree["ref"]),
            path=files if tree["main"] is None else files / str(tree["main"]),
            size_bytes=int(tree["size_bytes"]),
            sha256=str(tree["sha256"]),
            detail=str(tree["detail"]),
            fetched_wall_s=float(tree["fetched_wall_s"]),
            folder=files,
            files=tuple(
                StoredFile(str(file["path"]), int(file["size_bytes"]), str(file["sha256"]))
                for file in tree["files"]
            ),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
