"""Puts the flags of one more engine version into a table of src/inferry/engines/tables.

    python ask_vllm.py table | tail -1 > flags.json       # in the engine's environment
    python update_table.py TABLE.json 0.33.0 flags.json

Flags of the versions that the table already has stay: it holds for all of them. What the new version has no more is
printed, and wants an entry under `gone` with what to do instead; `read_from` is for people, and edited by hand. A version with another way to launch, or with a
flag that the adapter must not write for the versions before, begins a table of its own, and ends the one before.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Table = dict[str, Any]


def updated(table: Table, version: str, asked: dict[str, dict[str, str]]) -> tuple[Table, list[str]]:
    """The table with that version in it, and the flags that are in the table and not in the version."""
    flags = {**table["flags"], **asked["flags"]}
    aliases = {**table["aliases"], **asked["aliases"]}
    came_back = {*asked["flags"], *asked["aliases"]}
    gone = {flag: each for flag, each in table["gone"].items() if flag not in came_back}
    missing = sorted({*table["flags"]} - {*asked["flags"]} - {*gone})
    changed = {
        "through": version,
        "flags": dict(sorted(flags.items())),
        "aliases": dict(sorted((alias, flag) for alias, flag in aliases.items() if alias not in flags)),
        "gone": gone,
    }
    return {**table, **changed}, missing


if __name__ == "__main__":
    path, version, asked_path = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    table, missing = updated(json.loads(path.read_text()), version, json.loads(asked_path.read_text()))
    path.write_text(json.dumps(table, indent=1) + "\n")
    for flag in missing:
        sys.stdout.write(f"gone since {version}: {flag}\n")
