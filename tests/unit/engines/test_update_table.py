"""The tool that keeps the tables of flags up to date."""

from __future__ import annotations

from tests.engine_parsers.update_table import updated

TABLE = {
    "engine": "vllm",
    "through": "0.32.0",
    "flags": {"--old": "value", "--stays": "switch"},
    "aliases": {"-s": "--stays"},
    "gone": {"--ancient": {"since": "0.10.0", "instead": "drop it"}},
}


def test_a_newer_version_is_added() -> None:
    """New flags come in, those of older versions stay, and what is gone is named."""
    asked = {"flags": {"--new": "values", "--stays": "value"}, "aliases": {"-n": "--new"}}
    table, missing = updated(TABLE, "0.33.0", asked)
    assert table["through"] == "0.33.0"
    assert table["flags"] == {"--new": "values", "--old": "value", "--stays": "value"}
    assert table["aliases"] == {"-n": "--new", "-s": "--stays"}
    assert missing == ["--old"]


def test_a_flag_that_came_back_is_not_gone() -> None:
    """A table can't call a flag both known and gone without a version between."""
    table, missing = updated(
        TABLE,
        "0.33.0",
        {"flags": {"--ancient": "value", "--old": "value", "--stays": "switch"}, "aliases": {}},
    )
    assert table["gone"] == {}
    assert "--ancient" in table["flags"]
    assert missing == []
