"""Texts that must not change by accident: kept beside the tests, rewritten with INFERRY_WRITE_GOLDEN=1."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


def assert_golden(name: str, text: str) -> None:
    """The text is the one that is kept."""
    path = FOLDER / name
    if os.environ.get("INFERRY_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
