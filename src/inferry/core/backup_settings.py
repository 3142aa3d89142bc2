"""The deployment file's `backup:`: copies of file, keys and ledger that a running Inferry makes by itself."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from inferry.core.section import Section


class Backup(Section):
    """Each by the same means as `inferry backup`."""

    folder: str = Field(
        min_length=1,
        max_length=1000,
        description="Where they go. On another disk than Inferry's home, or copied away from there: what is lost with the "
        "ledger is no backup.",
    )
    every_hours: float = Field(
        24.0,
        ge=0.05,
        le=8760,
        description="Between two. Counted from the latest that is in the folder, also over restarts.",
    )
    keep: int = Field(14, ge=1, le=100_000, description="So many of the latest stay; older ones are deleted.")

    def resolved_against(self, folder: Path) -> Backup:
        """The same, with the folder made absolute below `folder`."""
        absolute = str((folder / Path(self.folder).expanduser()).absolute())
        return self.model_copy(update={"folder": absolute})
