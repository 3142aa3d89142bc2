"""The shared folder of models: finds, lists, checks, publishes and removes them.

    INFERRY_HOME/models/
      <key>/manifest.json     what is known of the model; its folder appears complete, or not at all
      <key>/files/...         the model's file or files
      .unfinished/<key>/      what pulls under way, or broken off, have so far
      .locks/<key>.lock       held by the process that pulls or removes that model

A key is a readable form of the source and a hash of its exact text.
"""

from __future__ import annotations

import builtins
import hashlib
import re
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from inferry.core.errors import ModelNotFound
from inferry.core.model_ref import ModelRef, ModelSource
from inferry.models.disk import hash_file, map_disk_errors, sync_to_disk
from inferry.models.file_lock import hold_lock
from inferry.models.manifest import FILES_FOLDER, Fetched, StoredModel, read_manifest, write_manifest
from inferry.models.progress import Progress

_SLUG_CHARS_MAX = 80
_UNFINISHED = ".unfinished"


def shown_ref(ref: ModelRef) -> str:
    """The source as it may be shown and kept: a URL without user, password and query, which may be secrets."""
    text = str(ref)
    if ref.source is not ModelSource.HTTP:
        return text
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path, "..." if parts.query else "", parts.fragment))
    except ValueError:
        return "a malformed URL"


class ModelStore:
    """The models below one INFERRY_HOME. Safe to use from several processes and threads at once."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "models"

    # --- asking -----------------------------------------------------------------------------------

    def find(self, ref: ModelRef) -> StoredModel | None:
        """The model, if all of it is here: no network, no hashing, sizes only."""
        if ref.source is ModelSource.FILE:
            return _local_model(ref)
        model = read_manifest(self._home_of(ref))
        return model if model is not None and not _wrong_sizes(model) else None

    def list(self) -> builtins.list[StoredModel]:
        """All fetched models, by name; also ones whose files were damaged since."""
        if not self.folder.is_dir():
            return []
        folders = (folder for folder in self.folder.iterdir() if not folder.name.startswith("."))
        models = (read_manifest(folder) for folder in folders)
        return sorted((model for model in models if model is not None), key=lambda model: model.ref)

    def verify(self, stored: StoredModel, progress: Progress) -> builtins.list[str]:
        """What is wrong with the model's files, one sentence each; empty: each byte is as it was fetched.

        Reads all of them. A `file:` model has no checksum to compare with; it must only exist.
        """
        if not stored.files:
            return [] if stored.path.exists() else [f"{stored.path} does not exist."]
        problems = _wrong_sizes(stored)
        if problems:
            return problems
        return [
            f"{stored.folder / file.path} is not what was fetched: its sha256 differs."
            for file in stored.files
            if hash_file(stored.folder / file.path, progress) != file.sha256
        ]

    # --- changing ---------------------------------------------------------------------------------

    def lock(self, ref: ModelRef, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Exclusive right to pull or remove `ref`; see `hold_lock`."""
        return self._lock(_key(ref), on_wait)

    def unfinished(self, ref: ModelRef) -> Path:
        """The folder for what a pull of `ref` has so far, kept from one pull to the next. Needs the lock."""
        folder = self.folder / _UNFINISHED / _key(ref)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def tidy_unfinished(self, ref: ModelRef) -> None:
        """Deletes the folder of unfinished work if nothing is in it that a next pull could use. Needs the lock."""
        folder = self.folder / _UNFINISHED / _key(ref)
        if folder.is_dir() and not tree_bytes(folder):
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, ref: ModelRef, fetched: Fetched, wall_s: float) -> StoredModel:
        """Makes what was fetched visible to all, in one rename. Needs the lock.

        Synced before the rename, so that a power cut can't leave a complete-looking model without content.
        """
        unfinished, home = self.unfinished(ref), self._home_of(ref)
        ready = unfinished / "ready"
        shutil.rmtree(ready, ignore_errors=True)
        ready.mkdir()
        for file in fetched.files:
            sync_to_disk(fetched.folder / file.path)
        fetched.folder.rename(ready / FILES_FOLDER)
        sync_to_disk(write_manifest(ready, shown_ref(ref), fetched, wall_s))
        sync_to_disk(ready)
        if home.exists():  # damaged, or `find` would have found it
            shutil.rmtree(unfinished / "damaged", ignore_errors=True)
            home.rename(unfinished / "damaged")
        ready.rename(home)
        sync_to_disk(self.folder)
        shutil.rmtree(unfinished, ignore_errors=True)
        model = read_manifest(home)
        assert model is not None
        return model

    def remove(self, ref: ModelRef) -> StoredModel:
        """Deletes the model and returns what it was; what an unfinished pull left of it goes too.

        Replicas that have the file open keep it until they end. Raises ModelNotFound when it is not in the
        store. A URL is also known by the form in which `list` shows it, if that fits one model only.
        """
        if ref.source is ModelSource.FILE:
            raise ModelNotFound(f"{ref} is a file of your own, not in the store: delete it yourself.")
        key = self._key_as_shown(ref) or _key(ref)
        home, unfinished = self.folder / key, self.folder / _UNFINISHED / key
        with map_disk_errors(self.folder), self._lock(key, lambda: None):
            model = read_manifest(home)
            if home.exists():  # first out of sight in one step, then piece by piece
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(parents=True)
                home.rename(unfinished / "removed")
            shutil.rmtree(unfinished, ignore_errors=True)
        if model is None:
            raise ModelNotFound(
                f"{shown_ref(ref)} is not in the store. 'inferry models list' shows what is there."
            )
        return model

    def discard_unfinished(self, ref: ModelRef) -> int:
        """Deletes what an unfinished pull of `ref` left, and returns how many bytes that were."""
        folder = self.folder / _UNFINISHED / _key(ref)
        if not folder.is_dir():
            return 0
        with map_disk_errors(self.folder), self.lock(ref, lambda: None):
            freed_bytes = tree_bytes(folder)
            shutil.rmtree(folder, ignore_errors=True)
        return freed_bytes

    # --- places -----------------------------------------------------------------------------------

    def _home_of(self, ref: ModelRef) -> Path:
        return self.folder / _key(ref)

    def _lock(self, key: str, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        return hold_lock(self.folder / ".locks" / f"{key}.lock", on_wait)

    def _key_as_shown(self, ref: ModelRef) -> str | None:
        """The key of the only model that `list` shows under this text, if that hides a part of its URL."""
        if ref.source is not ModelSource.HTTP or self._home_of(ref).exists():
            return None
        keys = [model.folder.parent.name for model in self.list() if model.ref == str(ref)]
        if len(keys) > 1:
            raise ModelNotFound(f"{len(keys)} models are shown as {ref}: give the whole URL of the one.")
        return keys[0] if keys else None


def tree_bytes(folder: Path) -> int:
    """Size of all files below `folder`; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _key(ref: ModelRef) -> str:
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", shown_ref(ref)).strip("-.")[:_SLUG_CHARS_MAX]
    return f"{slug}-{hashlib.sha256(str(ref).encode()).hexdigest()[:12]}"


def _wrong_sizes(model: StoredModel) -> builtins.list[str]:
    problems: builtins.list[str] = []
    for file in model.files:
        path = model.folder / file.path
        if not path.is_file():
            problems.append(f"{path} is missing.")
        elif path.stat().st_size != file.size_bytes:
            problems.append(f"{path} has {path.stat().st_size} bytes instead of {file.size_bytes}.")
    return problems


def _local_model(ref: ModelRef) -> StoredModel | None:
    path = Path(ref.name).expanduser()
    if not path.exists():
        return None
    size_bytes = tree_bytes(path) if path.is_dir() else path.stat().st_size
    return StoredModel(str(ref), path.absolute(), size_bytes, None, "your own", None, path.absolute().parent)
