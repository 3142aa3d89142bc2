"""Files that a deployment file names, and where a container will have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError
from inferry.engines.container import Mount
from inferry.render.shipment import BACKUPS_PATH, MODELS_PATH

FOLDER = "/etc/inferry/files"
_NAMES = frozenset({"certificate", "key", "terms_file", "tokenizer", "config"})
"""Keys whose values are paths, wherever they stand with a path below them in the checked file."""
_MODEL = "file:"


def paths_inside(
    tree: Mapping[str, Any], config: DeploymentFile, embedded: Sequence[str]
) -> tuple[dict[str, Any], tuple[Mount, ...]]:
    """The tree with each path as it is inside, and what has to be mounted there: of models, only those of `embedded` deployments.

    Raises ConfigError for a path by reference.
    """
    found = _Paths(embedded)
    changed = found.walk(tree, config.model_dump(), ())
    assert isinstance(changed, dict)
    return changed, tuple(found.mounts)


class _Paths:
    def __init__(self, embedded: Sequence[str]) -> None:
        self._embedded = embedded
        self.mounts: list[Mount] = []

    def walk(self, written: Any, checked: Any, at: tuple[str, ...]) -> Any:
        if isinstance(written, Mapping) and isinstance(checked, Mapping):
            return {
                key: self.walk(value, checked.get(key), (*at, str(key))) for key, value in written.items()
            }
        if isinstance(written, list) and isinstance(checked, list):
            return [
                self.walk(one, other, (*at, str(number)))
                for number, (one, other) in enumerate(zip(written, checked, strict=True))
            ]
        return self._leaf(written, checked, at)

    def _leaf(self, written: Any, checked: Any, at: tuple[str, ...]) -> Any:
        if not isinstance(written, str) or not isinstance(checked, str):
            return written
        if (
            at[0] == "deployments"
            and at[1] in self._embedded
            and at[-1] == "model"
            and checked.startswith(_MODEL)
        ):
            return _MODEL + self._mount(checked.removeprefix(_MODEL), written, at, MODELS_PATH)
        if at == ("backup", "folder"):
            return BACKUPS_PATH
        if at[-1] in _NAMES and checked.startswith("/"):
            return self._mount(checked, written, at, FOLDER)
        return written

    def _mount(self, outside: str, written: str, at: tuple[str, ...], folder: str) -> str:
        if "${" in written:
            raise ConfigError(
                f"{'.'.join(at)}: '{written}' is a path by reference: it would be another one inside of a container. "
                "Write the path itself."
            )
        for mount in self.mounts:
            if mount.outside == Path(outside):
                return mount.inside
        inside = f"{folder}/{len(self.mounts)}-{Path(outside).name}"
        self.mounts.append(Mount(Path(outside), inside))
        return inside
