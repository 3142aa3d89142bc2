"""`hf:org/name[/file][@revision]`: a repository of a model hub, or one file of it."""

from __future__ import annotations

import inspect
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inferry.core.errors import ModelFetchFailed, ModelNotFound
from inferry.core.model_ref import ModelRef
from inferry.models.disk import hash_file, leads_out, require_room
from inferry.models.hub_errors import map_hub_errors
from inferry.models.manifest import FILES_FOLDER, Fetched, StoredFile
from inferry.models.progress import Progress, phase
from inferry.models.wheel import name_models

ASK_S = 10.0
"""How long the hub may take to answer a question about a repository."""
_SPLIT = re.compile(r"(.*)-00001-of-(\d{5})(\.gguf)")


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    path: str
    size_bytes: int | None
    sha256: str | None
    """The hub knows it for large files only."""


def fetch_from_hub(
    ref: ModelRef, unfinished: Path, *, progress: Progress, environ: Mapping[str, str]
) -> Fetched:
    """Downloads the file or the whole repository, at the one commit that the revision means now.

    `HF_TOKEN` opens private and gated repositories, `HF_ENDPOINT` names another hub. See `Fetch`.
    """
    from huggingface_hub import HfApi, hf_hub_download  # takes most of a second to import
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # We draw our own bars, and word our own errors: the client's warnings quote whole signed URLs.
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    token, endpoint = environ.get("HF_TOKEN") or None, environ.get("HF_ENDPOINT") or None
    folder = unfinished / FILES_FOLDER
    meter = _Meter(progress)
    with map_hub_errors(ref, has_token=token is not None, callers=lambda: meter.raised):
        with phase(progress, f"asking the hub for {ref.name}", None):
            info = HfApi(endpoint=endpoint, token=token).model_info(
                ref.name, revision=ref.revision, timeout=ASK_S, files_metadata=True
            )
        remote = choose_files(ref, _files_of(info))
        total_bytes = _total_bytes(remote)
        require_room(unfinished, max(0, total_bytes - _have_bytes(folder)))
        with phase(progress, str(ref), total_bytes):
            # One file after the other, not snapshot_download: sizes and checksums of all files are known
            # from the question above, and the progress is told in bytes on every version of the hub's client.
            for file in remote:
                hf_hub_download(
                    ref.name,
                    file.path,
                    revision=info.sha,
                    local_dir=folder,
                    token=token,
                    endpoint=endpoint,
                    etag_timeout=ASK_S,
                    **meter.arguments(hf_hub_download),
                )
                meter.complete(file.size_bytes)
    files = _check(folder, remote, total_bytes, progress)
    # The client's own notes, by which it resumes: not a part of the model.
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return Fetched(folder, files, remote[0].path if ref.file else None, f"commit {info.sha}")


def choose_files(ref: ModelRef, files: Sequence[_RemoteFile]) -> list[_RemoteFile]:
    """The files that `ref` means; of a GGUF that is split in parts, all parts, the first one first."""
    files = [file for file in files if not leads_out(file.path)]
    if ref.file is None:
        if not files:
            raise ModelNotFound(f"{ref} is empty: there is no file in this repository.")
        return files
    by_path = {file.path: file for file in files}
    wanted = [ref.file]
    if split := _SPLIT.fullmatch(ref.file):
        wanted = [f"{split[1]}-{part:05}-of-{split[2]}{split[3]}" for part in range(1, int(split[2]) + 1)]
    missing = [path for path in wanted if path not in by_path]
    if missing:
        raise ModelNotFound(f"There is no '{missing[0]}' in hf:{ref.name}. {name_models(list(by_path))}")
    return [by_path[path] for path in wanted]


def _files_of(info: Any) -> list[_RemoteFile]:
    return [
        _RemoteFile(sibling.rfilename, sibling.size, getattr(sibling.lfs, "sha256", None))
        for sibling in info.siblings or ()
    ]


def _total_bytes(files: Sequence[_RemoteFile]) -> int:
    return sum(file.size_bytes or 0 for file in files)


def _have_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _check(
    folder: Path, remote: Sequence[_RemoteFile], total_bytes: int, progress: Progress
) -> tuple[StoredFile, ...]:
    """The files with their checksums; raises ModelFetchFailed for one that is not as the hub describes it."""
    files = []
    with phase(progress, "checking", total_bytes):
        for file in remote:
            path = folder / file.path
            size_bytes, sha256 = path.stat().st_size, hash_file(path, progress)
            if size_bytes != (size_bytes if file.size_bytes is None else file.size_bytes) or sha256 != (
                file.sha256 or sha256
            ):
                shutil.rmtree(folder)
                raise ModelFetchFailed(
                    f"{file.path} is not as the hub describes it (size or sha256). It was deleted: pull again."
                )
            files.append(StoredFile(file.path, size_bytes, sha256))
    return tuple(files)


class _Meter:
    """Tells the progress, through the bar class that the hub's client lets callers give."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told_bytes = 0
        self.raised: Exception | None = None
        """What `progress` raised: the way to tell it from an error of the client."""

    def arguments(self, download: Any) -> dict[str, Any]:
        """`tqdm_class=...`, or nothing for an older client: then each file is told when it is complete."""
        if "tqdm_class" not in inspect.signature(download).parameters:
            return {}
        from huggingface_hub.utils.tqdm import tqdm

        meter = self

        class Bar(tqdm):  # type: ignore[misc,type-arg,unused-ignore]
            """Draws nothing."""

            def __init__(self, *args: Any, **options: Any) -> None:
                meter.tell(int(options.get("initial") or 0))
                super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call,unused-ignore]

            def update(self, n: float | None = 1) -> bool | None:
                meter.tell(int(n or 0))
                return None

        return {"tqdm_class": Bar}

    def tell(self, new_bytes: int) -> None:
        self._told_bytes += new_bytes
        try:
            self._progress.advance(new_bytes)
        except Exception as error:
            self.raised = error
            raise

    def complete(self, size_bytes: int | None) -> None:
        """Levels what was told with what the file has: it may have been here, or have come twice."""
        self.tell((self._told_bytes if size_bytes is None else size_bytes) - self._told_bytes)
        self._told_bytes = 0
