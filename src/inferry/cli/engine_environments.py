"""The environments that `inferry engines install` makes: where they are, and how one appears whole or not at all.

    INFERRY_HOME/engines/
      <name>               a link to the finished environment; made last, in one step
      .made/<name>/...     the environments themselves, finished or under way
      .locks/<name>.lock   held by the process that installs or removes that one
      .logs/<name>.log     what pip and the engine said at the last installation

Programs inside an environment begin with its own path, so it can't be moved into place: a link is.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from inferry.core.errors import ConfigError
from inferry.models.file_lock import hold_lock

_RECORD = "inferry-engine.json"


@dataclass(frozen=True, slots=True)
class InstalledEngine:
    """What is known of a finished environment."""

    name: str
    version: str
    python: str
    installed_wall_s: float


class EngineEnvironments:
    """Those below one INFERRY_HOME. Safe to use from several processes at once, with `lock`."""

    def __init__(self, home: Path) -> None:
        # Programs will begin with this path: the real one, so that they outlive links to it.
        self.folder = (home / "engines").resolve()
        self._made = self.folder / ".made"

    # --- asking -----------------------------------------------------------------------------------

    def path(self, name: str) -> Path:
        return self.folder / name

    def log(self, name: str) -> Path:
        return self.folder / ".logs" / f"{name}.log"

    def find(self, name: str) -> InstalledEngine | None:
        """The finished environment of that name."""
        try:
            return InstalledEngine(**json.loads((self.path(name) / _RECORD).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    # --- changing; all of these need the lock -----------------------------------------------------

    def lock(self, name: str, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Exclusive right to install or remove `name`; free again when its holder dies."""
        return hold_lock(self.folder / ".locks" / f"{name}.lock", on_wait)

    def begin(self, name: str) -> Path:
        """A folder to make the environment in, after what broken-off attempts left is deleted.

        A new path each time: a program of an attempt that was killed may still write into the old one.
        """
        self._require_ours(name)
        self._delete_all_but_current(name)
        folder = self._made / name / secrets.token_hex(4)
        folder.mkdir(parents=True)
        return folder

    def publish(self, folder: Path, made: InstalledEngine) -> None:
        """`folder` is the environment `made.name` from now on; the one before is deleted."""
        (folder / _RECORD).write_text(json.dumps(asdict(made)))
        os.sync()  # no power cut shall leave a link to files without content
        new = self._made / made.name / "link"
        new.unlink(missing_ok=True)
        new.symlink_to(folder.relative_to(self.folder))
        new.rename(self.path(made.name))
        self._delete_all_but_current(made.name)

    def discard(self, folder: Path) -> None:
        """Deletes what `begin` gave, if it was not published."""
        shutil.rmtree(folder, ignore_errors=True)

    def remove(self, name: str) -> bool:
        """Deletes the environment, also a half-made one; False: there was nothing."""
        self._require_ours(name)
        link = self.path(name)
        there = link.is_symlink() or self._attempts(name) != []
        link.unlink(missing_ok=True)
        self._delete_all_but_current(name)
        self.log(name).unlink(missing_ok=True)
        return there

    # --- inside ------------------------------------------------------------------------------------

    def _require_ours(self, name: str) -> None:
        path = self.path(name)
        if path.exists() and not path.is_symlink():
            raise ConfigError(
                f"{path} was not made by 'inferry engines install', so it is left alone. Move it away and try again."
            )

    def _attempts(self, name: str) -> list[Path]:
        folder = self._made / name
        return list(folder.iterdir()) if folder.is_dir() else []

    def _delete_all_but_current(self, name: str) -> None:
        current = self.path(name).resolve()
        for each in self._attempts(name):
            if not each.is_symlink() and each.resolve() != current:
                shutil.rmtree(each, ignore_errors=True)
