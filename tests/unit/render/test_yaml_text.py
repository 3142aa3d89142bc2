"""YAML with reasons: what comes out is read back as what went in, and the reasons stand where they belong."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from inferry.render.yaml_text import Why, documents, without_reasons, yaml_text


@pytest.mark.parametrize(
    "value",
    [
        "plain", "", " leading", "trailing ", "on", "yes", "null", "1e3", "0x1f", "012", "3.10", "a: b", "- a", "#no",
        "two\nlines", "two\nlines\n", "blank\n\nbetween\n", "\nbegins empty", "ends empty\n\n", "  indented\nline", "\n",
        "tab\there", "bell\x07", "quote ' and \"", "{brace}", "${NAME}", "$(NAME)", "é 漢", "a" * 300, "a b " * 100,
        0, 1, -1.5, True, None, [], {}, [[1, 2], [], [[3]]], [{"a": 1, "b": [1]}, {}], {"a": {"b": {"c": []}}},
    ],
)  # fmt: skip
def test_what_is_written_is_read_back(value: Any) -> None:
    """Whatever a value holds: no text may become a number, a comment or another text."""
    data = {"key": value, "list": [value, {"inside": value, "after": 1}], "odd: key": value}
    assert yaml.safe_load(yaml_text(data)) == data


def test_a_reason_stands_above_its_value() -> None:
    """At the indent of the key, whether in a mapping or at the first key of a list's item."""
    data = {
        "probe": Why("Loading takes minutes.", {"failures": 240}),
        "rules": [{"metric": Why("Counts waiting ones.", "queue"), "above": 5}, Why("A whole item.", "last")],
    }
    assert yaml_text(data, "Made by a test.") == (
        "# Made by a test.\n"
        "# Loading takes minutes.\n"
        "probe:\n"
        "  failures: 240\n"
        "rules:\n"
        "  # Counts waiting ones.\n"
        "  - metric: queue\n"
        "    above: 5\n"
        "  # A whole item.\n"
        "  - last\n"
    )
    assert yaml.safe_load(yaml_text(data)) == without_reasons(data)


def test_a_long_reason_is_wrapped() -> None:
    """Nobody reads a comment of 300 characters in one line."""
    text = yaml_text({"key": Why("word " * 60, 1)})
    assert max(map(len, text.splitlines())) <= 102
    assert yaml.safe_load(text) == {"key": 1}


def test_documents_are_read_one_by_one() -> None:
    """Several objects in one file, as kubectl takes them."""
    text = documents(yaml_text({"a": 1}, "First."), yaml_text({"b": 2}))
    assert list(yaml.safe_load_all(text)) == [{"a": 1}, {"b": 2}]
