"""Where Inferry keeps its own things: models, run files, logs. One folder, `INFERRY_HOME`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def inferry_home(environ: Mapping[str, str]) -> Path:
    """`$INFERRY_HOME`, or `~/.inferry`. Not created here."""
    named = environ.get("INFERRY_HOME")
    return Path(named).expanduser().resolve() if named else Path.home() / ".inferry"
