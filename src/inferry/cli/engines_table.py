"""How `inferry engines list` and `compare` look."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from inferry.engines.continuation import continuation_of
from inferry.engines.facts import TOPICS, EngineFacts, Source

_TITLES = {
    "purpose": "what it is for",
    "hardware": "hardware",
    "state": "state of maintenance",
    "quantization": "quantization",
    "parallelism": "parallelism",
    "apis": "APIs",
    "health": "health pages",
    "metrics": "metrics",
    "keys": "its own API key",
    "shutdown": "shutdown and broken streams",
    "resume": "continuing a broken answer (L3 to the token, L2 and L1 as text, L0 not)",
}

_CONTINUED = {
    "text": "Inferry can ask for it in chats and completions.",
    "completions": "Inferry can ask for it in completions.",
    "none": "Inferry does not ask for it.",
}
"""By the levels of engines/continuation.py."""


def list_text(rows: Sequence[dict[str, Any]], columns: int) -> str:
    """Some lines per engine: whether it is here, its state, what it is for, and its hardware."""
    table = [("ENGINE", "HERE", "STATE")]
    table += [(row["engine"], _here(row["here"]), _short(row["state"])) for row in rows]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    leads = [
        "".join(cell.ljust(width + 2) for cell, width in zip(line, widths, strict=True)) for line in table
    ]
    lines = [leads[0] + "FOR"]
    for lead, row in zip(leads[1:], rows, strict=True):
        lines.append(_hanging(lead, row["for"], columns))
        lines.append(_hanging(" " * len(lead), f"Hardware: {row['hardware']}", columns))
    return "\n".join([*lines, "", "More, with sources: inferry engines compare"])


def _here(here: dict[str, Any] | None) -> str:
    return "-" if here is None else here["version"] or "yes"


def _short(state: str) -> str:
    return state.partition(":")[0].partition(";")[0]


def compare_text(engines: Sequence[EngineFacts], columns: int) -> str:
    """Topic after topic, a line per engine; figures; and the sources that the numbers in brackets mean."""
    sources: list[Source] = []

    def mark(source: Source) -> str:
        if source not in sources:
            sources.append(source)
        return f"[{sources.index(source) + 1}]"

    width = max(len(each.engine) for each in engines)
    lines: list[str] = []
    for topic in TOPICS:
        lines.append(_TITLES[topic].upper())
        for each in engines:
            fact = each.facts[topic]
            text = f"{fact.text} {mark(each.source_of(fact))}"
            if topic == "resume":
                text += f" {_CONTINUED[continuation_of(each.engine).level]}"
            lines.append(_hanging(f"  {each.engine.ljust(width)}  ", text, columns))
        lines.append("")
    lines.append("MEASURED (compare only lines of one source and one load)")
    for each in engines:
        for figure in each.figures:
            text = f"{figure.value}: {figure.what}; by {figure.measured_by} {mark(each.source_of(figure))}"
            lines.append(_hanging(f"  {each.engine.ljust(width)}  ", text, columns))
        if not each.figures:
            lines.append(f"  {each.engine.ljust(width)}  no figure with a source")
    lines += ["", "SOURCES"]
    for number, source in enumerate(sources, 1):
        text = f"{source.what} ({source.date}): {source.address}"
        lines.append(_hanging(f"  [{number}] ".ljust(7), text, columns))
    return "\n".join(lines)


def compare_json(engines: Sequence[EngineFacts]) -> list[dict[str, Any]]:
    """The same for programs, each fact with its source in full."""

    def told(source: Source) -> dict[str, str]:
        return {"what": source.what, "address": source.address, "date": source.date}

    return [
        {
            "engine": each.engine,
            "title": each.title,
            "facts": {
                topic: {"text": each.text(topic), "source": told(each.source_of(each.facts[topic]))}
                for topic in TOPICS
            },
            "continuation": continuation_of(each.engine).level,
            "figures": [
                {
                    "value": figure.value,
                    "what": figure.what,
                    "measured_by": figure.measured_by,
                    "source": told(each.source_of(figure)),
                }
                for figure in each.figures
            ],
        }
        for each in engines
    ]


def _hanging(lead: str, text: str, columns: int) -> str:
    """`lead` and `text`, wrapped below the text's own beginning; addresses stay whole."""
    return textwrap.fill(
        text,
        width=max(columns, len(lead) + 30),
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )
