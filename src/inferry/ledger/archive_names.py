"""How backups in a folder are named: after the time at which they were made, so that their order is that of their age."""

from __future__ import annotations

import re
from pathlib import Path

from inferry.core.clock import utc_text, wall_s_of

_OURS = re.compile(r"inferry-(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z\.tar\.(gz|zst)")
"""What may be deleted: names that nothing else gives."""


def archive_name(made_wall_s: float) -> str:
    """`inferry-20260131T120000Z.tar.gz`."""
    stamp = utc_text(made_wall_s).replace("-", "").replace(":", "").replace(" ", "T")
    return f"inferry-{stamp}.tar.gz"


def archives_in(folder: Path) -> list[Path]:
    """Those that have such a name, oldest first; none where there is no such folder. Raises OSError for one that can't
    be read."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))


def newest_wall_s(folder: Path) -> float | None:
    """When the latest one in a folder was made, by its name; None: there is none. Raises OSError as `archives_in`."""
    for path in reversed(archives_in(folder)):
        found = _OURS.fullmatch(path.name)
        assert found is not None
        year, month, day, hour, minute, second, _ = found.groups()
        try:
            return wall_s_of(f"{year}-{month}-{day}T{hour}:{minute}:{second}Z")
        except ValueError:  # a name like ours with a day that no calendar has
            continue
    return None
