"""Rendered files beside the ones that were reviewed. INFERRY_GOLDEN=write takes them over, to be looked at in the diff."""

from __future__ import annotations

import os
from pathlib import Path

from inferry.render.shipment import Files

GOLDEN = Path(__file__).with_name("golden")


def check_golden(name: str, files: Files) -> None:
    """Fails with the first difference."""
    folder = GOLDEN / name
    if os.environ.get("INFERRY_GOLDEN") == "write":
        for old in sorted(folder.rglob("*"), reverse=True):
            if old.is_file():
                old.unlink()
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())
    reviewed = {
        str(path.relative_to(folder)): path.read_bytes().decode()
        for path in folder.rglob("*")
        if path.is_file()
    }
    assert sorted(reviewed) == sorted(files)
    for path in sorted(files):
        assert files[path] == reviewed[path], f"golden/{name}/{path}"
