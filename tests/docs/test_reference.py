"""The generated table of the deployment file's keys says what may be written."""

from __future__ import annotations

from .pages import DOCS

PAGE = (DOCS / "deployment-file.md").read_text(encoding="utf-8")


def row(key: str) -> list[str]:
    [line] = [line for line in PAGE.splitlines() if line.startswith(f"| `{key}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_sizes_are_told_to_take_units() -> None:
    """Whatever is counted in bytes may be written with its unit, and its bounds and default are shown so."""
    for key, default, bounds in (
        ("memory_budget", "left out", "1MiB to 1PiB"),
        ("memory", "left out", "1MiB to 1PiB"),
        ("body_max_bytes", "`32MiB`", "1KiB to 1GiB"),
    ):
        assert row(key)[1:4] == ["a size such as `8 GiB`, or a number of bytes", default, bounds]


def test_keys_that_lead_below_are_below() -> None:
    """Each key that is said to have keys of its own has a table of them."""
    tables = [line for line in PAGE.splitlines() if line.startswith("### `")]
    wanted = [line.split("`")[1] for line in PAGE.splitlines() if "| keys, see below |" in line]
    assert [key for key in wanted if not any(f"{key}:`" in title for title in tables)] == []
