"""docs/observability.md against the code: log fields and span attributes."""

from __future__ import annotations

import json
import re

import msgspec

from inferry.gateway.access_log import AccessLine

from .pages import DOCS, ROOT, blocks

PAGE = DOCS / "observability.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_field_of_the_access_log_is_explained() -> None:
    """The table names each field of a line, and no other."""
    table = [row.split("|")[1] for row in TEXT.splitlines() if row.startswith("| `")]
    named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert named == {each.name for each in msgspec.structs.fields(AccessLine)}


def test_the_line_on_the_page_is_one_of_ours() -> None:
    """The example has our fields only, and those that every line has."""
    [line] = [json.loads(block.text) for block in blocks(PAGE) if block.language == "json"]
    assert msgspec.convert(line, AccessLine).ending == "completed"
    assert set(line) <= {each.name for each in msgspec.structs.fields(AccessLine)}


def test_every_attribute_is_named() -> None:
    """Each span attribute that the code writes is on the page."""
    gateway = ROOT / "src" / "inferry" / "gateway"
    attributes = set(re.findall(r'"((?:gen_ai|inferry)\.[\w.]+)"', (gateway / "traces.py").read_text()))
    assert len(attributes) > 15
    assert [name for name in sorted(attributes) if f"`{name}" not in TEXT] == []
