"""What is said of engines: complete, sourced, dated; and a file that is not is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferry.core.deployment import ENGINE_TYPES
from inferry.engines.facts import ORDER, TOPICS, EngineFacts, engine_facts

ROOT = Path(__file__).parents[3]


def test_every_engine_of_the_file_has_its_facts() -> None:
    """Whatever may stand as `engine:` is listed and compared, and nothing else."""
    assert set(engine_facts()) == set(ORDER) == set(ENGINE_TYPES)


@pytest.mark.parametrize("engine", ORDER)
def test_each_fact_has_a_source_that_can_be_opened(engine: str) -> None:
    """Each topic has a sentence, and each source is a URL or a page of this repository."""
    facts = engine_facts()[engine]
    assert facts.engine == engine
    assert all(facts.text(topic) for topic in TOPICS)
    for source in facts.sources.values():
        assert source.what
        assert source.address.startswith("https://") or (ROOT / source.address).is_file()


def test_figures_of_our_own_stand_on_their_page() -> None:
    """A figure that this project measured is on the page that it names, which says how."""
    ours = [
        (figure.value, facts.source_of(figure).address)
        for facts in engine_facts().values()
        for figure in facts.figures
        if figure.measured_by == "this project"
    ]
    assert ours
    for value, address in ours:
        assert value in (ROOT / address).read_text(encoding="utf-8")


def content() -> dict[str, Any]:
    """As a file has it, right in everything."""
    return {
        "engine": "e",
        "title": "E",
        "sources": {"s": {"what": "its source, 1.0", "address": "https://e.example", "date": "2026-11"}},
        "facts": {topic: ["text", "s"] for topic in TOPICS},
        "figures": [{"value": "1 token/s", "what": "model, machine", "measured_by": "me", "source": "s"}],
    }


def decoded(tree: dict[str, Any]) -> EngineFacts:
    return msgspec.json.decode(msgspec.json.encode(tree), type=EngineFacts)


def test_a_right_file_is_read() -> None:
    """A complete file is taken, and a fact leads to its source."""
    facts = decoded(content())
    assert facts.source_of(facts.figures[0]).what == "its source, 1.0"
    assert facts.source_of(facts.facts["resume"]).date == "2026-11"


def wrong(change: str) -> dict[str, Any]:
    tree = content()
    match change:
        case "no topic":
            del tree["facts"]["health"]
        case "no such source":
            tree["figures"][0]["source"] = "hearsay"
        case "unused":
            tree["sources"]["more"] = tree["sources"]["s"]
        case "no date":
            tree["sources"]["s"]["date"] = "lately"
        case "figure without source":
            del tree["figures"][0]["source"]
        case "unknown key":
            tree["stars"] = 5
    return tree


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("no topic", "nothing on health"),
        ("no such source", "no such source: hearsay"),
        ("unused", "source without a fact: more"),
        ("no date", "without a date: s"),
        ("figure without source", "source"),
        ("unknown key", "stars"),
    ],
)
def test_a_wrong_file_is_refused(change: str, said: str) -> None:
    """A missing topic, a fact or figure without a known, dated source, or a stray key: refused, and named."""
    with pytest.raises(msgspec.ValidationError, match=said):
        decoded(wrong(change))
