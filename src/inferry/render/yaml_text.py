"""YAML with comments that say why: plain data to text, always the same."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Data = Mapping[str, Any]

COMMENT_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Why:
    """A value with the reason for it, which stands above its key (or list item) as a comment."""

    because: str
    value: Any


def yaml_text(data: Data, head: str = "") -> str:
    """One document. `head`: a comment before it."""
    return _comment(head, "") + "\n".join(_mapping(data, "")) + "\n"


def documents(*texts: str) -> str:
    """Several documents in one file."""
    return "---\n".join(texts)


def without_reasons(value: Any) -> Any:
    """The same data as its reader gets it: plain."""
    match value:
        case Why():
            return without_reasons(value.value)
        case Mapping():
            return {key: without_reasons(each) for key, each in value.items()}
        case str():
            return value
        case Sequence():
            return [without_reasons(each) for each in value]
    return value


def _mapping(data: Data, indent: str) -> list[str]:
    lines: list[str] = []
    for key, value in data.items():
        if isinstance(value, Why):
            lines += _comment(value.because, indent).splitlines()
            value = value.value
        word = f"{indent}{_scalar(key)}:"
        if isinstance(value, Mapping) and value:
            lines += [word, *_mapping(value, indent + "  ")]
        elif isinstance(value, Sequence) and not isinstance(value, str) and value:
            lines += [word, *_sequence(value, indent + "  ")]
        else:
            lines.append(f"{word} {_leaf(value, indent)}")
    return lines


def _sequence(items: Sequence[Any], indent: str) -> list[str]:
    lines: list[str] = []
    for item in items:
        if isinstance(item, Why):
            lines += _comment(item.because, indent).splitlines()
            item = item.value
        if isinstance(item, Mapping) and item:
            inner = _mapping(item, indent + "  ")
            # The dash stands where the first key's indent is; comments before that key stay above the dash.
            first = next(number for number, line in enumerate(inner) if not line.lstrip().startswith("#"))
            lines += [line[2:] for line in inner[:first]]
            lines += [f"{indent}- {inner[first].lstrip()}", *inner[first + 1 :]]
        elif isinstance(item, Sequence) and not isinstance(item, str) and item:
            inner = _sequence(item, indent + "  ")
            lines += [f"{indent}- {inner[0].lstrip()}", *inner[1:]]
        else:
            lines.append(f"{indent}- {_leaf(item, indent)}")
    return lines


def _leaf(value: Any, indent: str) -> str:
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[]"
    if isinstance(value, str) and "\n" in value and _fits_a_block(value):
        mark = "|" if value.endswith("\n") else "|-"
        inner = indent + "  "
        body = "\n".join(inner + line if line else "" for line in value.removesuffix("\n").split("\n"))
        return f"{mark}\n{body}"
    return _scalar(value)


def _fits_a_block(text: str) -> bool:
    """Blocks take their indent from their first line, and can't say every ending."""
    begins_well = text[0] not in " \n\t"
    lines = text.split("\n")
    return begins_well and not text.endswith("\n\n") and all(line.isprintable() for line in lines)


_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_MEANT_OTHERWISE = re.compile(r"(?i:y|n|yes|no|on|off|true|false|null)")


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    # The library is asked for whatever may need quotes; most texts are words, and it is slow.
    if isinstance(value, str) and _PLAIN.fullmatch(value) and not _MEANT_OTHERWISE.fullmatch(value):
        return value
    text: str = yaml.safe_dump(value, width=10**9, allow_unicode=True, default_flow_style=True)
    return text.removesuffix("...\n").removesuffix("\n")


def _comment(text: str, indent: str) -> str:
    lines: list[str] = []
    for paragraph in text.splitlines():
        lines += textwrap.wrap(paragraph, COMMENT_WIDTH - len(indent)) or [""]
    return "".join(f"{indent}# {line}".rstrip() + "\n" for line in lines)
