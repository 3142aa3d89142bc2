"""An engine's flags, per version range: what `tables/*.json` holds, each read from an engine's own source."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any, Literal

from inferry.core.errors import ConfigError
from inferry.engines.program import version_numbers

Takes = Literal["switch", "value", "values", "maybe"]
"""What follows a flag: nothing, one word, one or more words, at most one word."""


@dataclass(frozen=True, slots=True)
class GoneFlag:
    """A flag that the engine no longer has."""

    since: str
    """A version that was read and does not have it."""
    instead: str
    """What to do now: a flag's name, or a sentence."""


@dataclass(frozen=True, slots=True)
class FlagTable:
    engine: str
    since: str
    """The first version that it holds for."""
    until: str | None
    """The first that it does not hold for any more."""
    read_from: str
    through: str | None
    """The newest version that was read for it; None: all of the range are alike."""
    flags: Mapping[str, Takes]
    """Where several versions of the range were read: those of all."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other spellings, to the one in `flags`."""
    gone: Mapping[str, GoneFlag] = field(default_factory=dict)
    underscores: bool = False
    """`--max_model_len` is read as `--max-model-len`."""
    dotted: bool = False
    """`--flag.key value` sets one key of a flag that takes JSON."""
    complete: bool = True
    """False for a version newer than those that were read: it may have flags that are not here."""

    def known(self, written: str) -> str:
        """The spelling of `flags` and `gone` for a flag as it was written; unknown ones come back as written."""
        name = written.replace("_", "-") if self.underscores and written.startswith("--") else written
        if self.dotted:
            name = name.partition(".")[0]
        return self.aliases.get(name, name)


def table_for(engine: str, version: str | None) -> FlagTable:
    """The table of a version: the newest one for None and for versions that are newer than all tables.

    Raises ConfigError for a version that is older than what is known.
    """
    tables = _tables(engine)
    if version is None:
        return tables[-1]
    fitting = [table for table in tables if version_numbers(table.since) <= version_numbers(version)]
    if not fitting:
        raise ConfigError(
            f"{engine} {version} is older than what Inferry can start: use {tables[0].since} or newer."
        )
    return _as_of(version, fitting[-1])


def _as_of(version: str, table: FlagTable) -> FlagTable:
    """A range's table for one version of the range: flags that went later are still there."""
    numbers = version_numbers(version)
    gone = {flag: each for flag, each in table.gone.items() if version_numbers(each.since) <= numbers}
    complete = table.through is None or numbers <= version_numbers(table.through)
    return replace(table, gone=gone, complete=complete)


@functools.cache
def _tables(engine: str) -> tuple[FlagTable, ...]:
    """All tables of an engine, oldest first."""
    folder = resources.files("inferry.engines") / "tables"
    tables = []
    for entry in folder.iterdir():
        if entry.name.endswith(".json"):
            content = json.loads(entry.read_text(encoding="utf-8"))
            if content["engine"] == engine:
                tables.append(_table(content))
    if not tables:
        raise LookupError(f"no table of flags for {engine}")
    return tuple(sorted(tables, key=lambda table: version_numbers(table.since)))


def _table(content: dict[str, Any]) -> FlagTable:
    return FlagTable(
        engine=content["engine"],
        since=content["from"],
        until=content["until"],
        read_from=content["read_from"],
        through=content.get("through"),
        flags=content["flags"],
        aliases=content.get("aliases", {}),
        gone={flag: GoneFlag(**each) for flag, each in content.get("gone", {}).items()},
        underscores=content.get("underscores", False),
        dotted=content.get("dotted", False),
    )
