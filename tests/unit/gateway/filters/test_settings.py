"""What is wrong with a filter is said when it is compiled, in words that an operator can act on."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from inferry.core.config_file import parse_text
from inferry.core.errors import ConfigError
from inferry.core.request import COMPLETIONS
from inferry.gateway.filters.filter_set import FilterSet
from inferry.gateway.filters.verdict import Blocked

from .wire import compiled

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"patterns": ["a+"]}, "'r0'.*any length.*max_chars.*1,40"),
    ({"patterns": ["a*"], "max_chars": 5}, "nothing at all"),
    ({"patterns": [r"\b"]}, "nothing at all"),
    ({"patterns": ["(a"]}, "no RE2 pattern: missing"),
    ({"patterns": [r"(a)\1"]}, "no RE2 pattern: invalid escape"),
    ({"patterns": ["(?=a)b"]}, "no RE2 pattern: invalid perl operator"),
    ({"patterns": ["(a+b)+"], "max_chars": 50}, "inner one with a bound"),
    ({"patterns": ["abcde+"], "max_chars": 4}, "already takes up to 5"),
    ({"patterns": ["a(?i)b"]}, r"write \(\?i:"),
    ({"patterns": ["a{1000}" * 11]}, "11,000 characters.*10,000"),
    ({"detect": ["phone"], "phone_region": "XX"}, "'XX' is no country"),
    ({"terms_file": "not-there.txt"}, "not-there.txt can't be read"),
]


@pytest.mark.parametrize(("entry", "words"), WRONG)
def test_wrong_filters_are_told(entry: dict[str, Any], words: str) -> None:
    """Each mistake names the filter, the value and the way out."""
    with pytest.raises(ConfigError, match=words) as raised:
        compiled(entry)
    assert "The filter 'r0'" in raised.value.message


SHAPES: list[tuple[str, str]] = [
    ("{name: A, terms: [x]}", "small letters"),
    ("{name: a}", "looks for one thing"),
    ("{name: a, terms: [x], detect: [card]}", "not terms and detect"),
    ("{name: a, prompt_chars_max: 5, on: output}", "on: input"),
    ("{name: a, prompt_chars_max: 5, on: input, action: mask}", "use block or flag"),
    ("{name: a, terms: [x], max_chars: 4}", "'max_chars' is for patterns"),
    ("{name: a, guard: nobody}", "no such deployment"),
    ("{name: a, termz: [x]}", "Did you mean 'terms'"),
    ("{name: a, detect: [cards]}", "card"),
    ("{name: a, classifier: {url: 'ftp://x'}}", "http://HOST:PORT/PATH"),
    ("{name: a, classifier: {url: 'http://x/', api_key: k}}", "stored in clear"),
    ("{name: a, classifier: {url: 'http://x/', treshold: 1}}", "Did you mean 'threshold'"),
]


@pytest.mark.parametrize(("entry", "words"), SHAPES)
@pytest.mark.parametrize("place", ["gateway", "deployment"])
def test_wrong_entries_of_the_file_are_told(entry: str, words: str, place: str) -> None:
    """Mistakes that the types see come with file and line, in both places."""
    everywhere = f"gateway: {{filters: [{entry}]}}\n" if place == "gateway" else ""
    here = f", filters: [{entry}]" if place == "deployment" else ""
    text = f"{everywhere}deployments:\n  chat: {{engine: simulated{here}}}\n"
    with pytest.raises(ConfigError) as raised:
        parse_text(text, Path("inferry.yaml"), {})
    assert words in raised.value.message
    assert raised.value.message.startswith("inferry.yaml")


def test_names_are_unique_over_both_places() -> None:
    """A flag or a metric names one filter of a deployment."""
    text = (
        "gateway: {filters: [{name: a, terms: [x]}]}\n"
        "deployments: {chat: {engine: simulated, filters: [{name: a, terms: [y]}]}}\n"
    )
    with pytest.raises(ConfigError, match="two filters of 'chat' have the name 'a'"):
        parse_text(text, Path("inferry.yaml"), {})


def test_terms_come_from_a_file(tmp_path: Path) -> None:
    """terms_file is found beside the deployment file, and adds to `terms`."""
    (tmp_path / "terms.txt").write_text("# not this\n\nfirst one\nzweites\n", encoding="utf-8")
    text = "deployments: {chat: {engine: simulated, filters: [{name: a, terms_file: terms.txt, terms: [third]}]}}"
    loaded = parse_text(text, tmp_path / "inferry.yaml", {})
    filters = FilterSet(loaded.config.deployments["chat"].filters)
    for prompt, found in (("the FIRST one", 1), ("Zweites", 1), ("third", 1), ("not this", 0)):
        verdict = filters.input(COMPLETIONS, b'{"prompt":"%b"}' % prompt.encode(), "t", None)
        assert isinstance(verdict, Blocked) == bool(found)


@pytest.mark.parametrize(
    ("entry", "library"),
    [
        ({"terms": ["x"]}, "ahocorasick"),
        ({"patterns": ["x"]}, "re2"),
        ({"detect": ["phone"]}, "phonenumbers"),
        ({"detect": ["card"]}, "stdnum"),
        ({"detect": ["secret"]}, "detect_secrets"),
    ],
)
def test_a_missing_library_is_named(
    entry: dict[str, Any], library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the `filters` extra, the filter and the command that helps are told."""
    import sys

    real = builtins.__import__

    def refusing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **kwargs)

    for name in list(sys.modules):
        if name.partition(".")[0] == library or name.startswith("inferry.gateway.filters."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refusing)
    if library == "detect_secrets":
        # This one is imported by name, past __import__.
        monkeypatch.setitem(sys.modules, "detect_secrets", None)
    with pytest.raises(ConfigError, match=r"'r0' needs the package .*pip install 'inferry\[filters\]'"):
        compiled(entry)
