"""Keys from the environment: as they are meant, and never shown where they are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inferry.cli.batch_lifeline import LIFELINE
from inferry.cli.key_variable import bearer_headers
from inferry.core.errors import ConfigError

from .conftest import Run

WRONG = [
    "sk-secret\rxx",
    "sk-secret\nxx",
    "sk-secret xx",
    "sk-s\u00e9cret",
    "sk-secret\udcff",
    "sk-secret\x7f",
]


def test_what_a_shell_leaves_around_a_key_is_no_part_of_it() -> None:
    """A line end of a file with Windows' line ends goes away; nothing but that is no key."""
    assert bearer_headers({"K": " sk-1\r\n"}, "K") == {"authorization": "Bearer sk-1"}
    assert bearer_headers({"K": "\r\n"}, "K") == bearer_headers({}, "K") == {}


@pytest.mark.parametrize("key", WRONG)
def test_a_key_that_no_header_can_carry_is_named_by_its_variable(key: str) -> None:
    """Not one sign of it is told."""
    with pytest.raises(ConfigError) as raised:
        bearer_headers({"THE_KEY": key}, "THE_KEY")
    assert "THE_KEY" in raised.value.message
    assert "sk-" not in raised.value.message


@pytest.mark.parametrize("key", ["sk-secret\rxx", "sk-s\u00e9cret"])
@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("INFERRY_ENGINE_KEY", ["engines", "probe", "http://127.0.0.1:1"]),
        ("INFERRY_KEY", ["chat", "Hi", "--url", "http://127.0.0.1:1/v1"]),
        ("INFERRY_KEY", ["batch", "in.jsonl", "out.jsonl", "--url", "http://127.0.0.1:1/v1"]),
    ],
)
def test_every_verb_with_a_key_says_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, words: list[str], key: str
) -> None:
    """In one line, before anything is sent; no fault of Inferry's, and not the key."""
    line = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"model": "m"}}
    (tmp_path / "in.jsonl").write_text(json.dumps(line))
    monkeypatch.setenv(LIFELINE, "0")
    monkeypatch.setenv(variable, key)
    shown = run(*words)
    assert shown.code == 1
    assert shown.err.startswith(f"error: The key in the environment variable {variable} holds")
    assert "sk-s" not in shown.out + shown.err
