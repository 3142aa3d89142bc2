"""What is known of each engine, for people who choose one: `facts/*.json`. No fact or figure without its source."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Literal, get_args

import msgspec

Topic = Literal[
    "purpose",
    "hardware",
    "state",
    "quantization",
    "parallelism",
    "apis",
    "health",
    "metrics",
    "keys",
    "shutdown",
    "resume",
]
TOPICS: tuple[Topic, ...] = get_args(Topic)
"""In the order in which they are shown; every engine has each."""

ORDER = ("llamacpp", "vllm", "sglang", "tensorrt-llm", "tgi", "transformers", "ollama", "openai", "simulated")
"""Engines as they are listed: what runs anywhere first, what nobody should begin with last."""

_DATE = re.compile(r"20\d\d(-\d\d(-\d\d)?)?")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where something was read or measured."""

    what: str
    """The document and its version, or the machine."""
    address: str
    """A URL, or a page of these docs."""
    date: str
    """Of the reading; of a measurement, when it was published. YYYY[-MM[-DD]]."""


class Fact(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    text: str
    source: str
    """A name in `sources`."""


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured speed. Two of them compare only where source and `what` are the same."""

    value: str
    """With its unit."""
    what: str
    """Model, hardware, load."""
    measured_by: str
    source: str


class EngineFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    engine: str
    title: str
    sources: dict[str, Source]
    facts: dict[Topic, Fact]
    figures: list[Figure]

    def __post_init__(self) -> None:
        if missing := [topic for topic in TOPICS if topic not in self.facts]:
            raise ValueError(f"{self.engine}: nothing on {', '.join(missing)}")
        named = {fact.source for fact in self.facts.values()} | {figure.source for figure in self.figures}
        if unknown := named - set(self.sources):
            raise ValueError(f"{self.engine}: no such source: {', '.join(sorted(unknown))}")
        if unused := set(self.sources) - named:
            raise ValueError(f"{self.engine}: source without a fact: {', '.join(sorted(unused))}")
        if undated := [name for name, each in self.sources.items() if not _DATE.fullmatch(each.date)]:
            raise ValueError(f"{self.engine}: source without a date: {', '.join(undated)}")

    def text(self, topic: Topic) -> str:
        return self.facts[topic].text

    def source_of(self, each: Fact | Figure) -> Source:
        return self.sources[each.source]


@functools.cache
def engine_facts() -> dict[str, EngineFacts]:
    """All engines by name, in ORDER. Raises msgspec.ValidationError if a file is not as it must be."""
    folder = resources.files("inferry.engines") / "facts"
    return {
        name: msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=EngineFacts) for name in ORDER
    }
