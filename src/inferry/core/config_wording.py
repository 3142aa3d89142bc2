"""What is wrong with a value of the deployment file, in words: the place, the value and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from inferry.core.config_sections import section_at
from inferry.core.deployment import ENGINE_TYPES
from inferry.core.deployment_base import ManagedBase
from inferry.core.runtime_settings import RUNTIME_TYPES
from inferry.core.shown_url import shown_url
from inferry.core.suggest import did_you_mean

KeyPath = tuple[str | int, ...]


def path_of(detail: ErrorDetails) -> KeyPath:
    """Where in the file it is."""
    at = tuple(detail["loc"])
    if at and at[-1] == "[key]":  # pydantic's way to say that the key itself is wrong
        at = at[:-1]
    # The tag of a union stands in pydantic's path, but not in the file.
    if len(at) > 2 and at[0] == "deployments" and at[2] in ENGINE_TYPES:
        at = at[:2] + at[3:]
    if len(at) > 1 and at[0] == "runtime" and at[1] in RUNTIME_TYPES:
        at = at[:1] + at[2:]
    return at


def dotted(at: KeyPath) -> str:
    """The path as people write it."""
    return ".".join(str(part) for part in at)


def kind_of(value: Any) -> str:
    """The value as it may be shown, cut to one line; of groups and lists, only what they are."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a group of keys"
    if isinstance(value, list):
        return "a list"
    text = repr(shown_url(value) if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "...'"


_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list, as in [first, second]",
    "dict_type": "a group of keys",
    "model_type": "a group of keys",
    "model_attributes_type": "a group of keys",
    "byte_size": "a size such as 32MiB",
    "byte_size_unit": "a size such as 32MiB",
}


def explain(
    detail: ErrorDetails,
    tree: Mapping[str, Any],
    written: Mapping[KeyPath, str],
    resolved: Mapping[KeyPath, str],
    place_of: Callable[[KeyPath], str],
) -> str:
    """One line: where, what is wrong with which value, and the way out.

    `written`: the text of values with a reference, by path; `resolved`: what became of them, which is not shown.
    """
    at = path_of(detail)
    place = place_of(at)
    value = detail["input"]
    shown = written.get(at) or kind_of(value)
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"{place}: there is no such key.{_key_hint(at, tree)}"
        case "missing":
            return f"{place} is missing: add '{at[-1]}:'{_missing_hint(at)}"
        case "union_tag_invalid" if value[_tag(at)] is None:
            return f"{place}.{_tag(at)} is empty: one of {_tags(at)} is needed."
        case "literal_error" | "union_tag_invalid":
            wanted = sorted(
                re.findall(r"'([^']+)'", str(context.get("expected") or context["expected_tags"]))
            )
            if detail["type"] == "union_tag_invalid":
                at = (*at, _tag(at))
                place, value = place_of(at), detail["input"][at[-1]]
                shown = written.get(at) or kind_of(value)
            near = did_you_mean(str(value), wanted)
            near = "" if near.startswith(" Known") else near
            return f"{place}: {shown} is not known.{near} One of: {', '.join(wanted)}."
        case "union_tag_not_found":
            return f"{place}.{_tag(at)} is missing: add '{_tag(at)}:', one of {_tags(at)}."
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            limit = next(iter(context.values()))
            bound = {"greater_than_equal": "at least", "greater_than": "more than",
                     "less_than_equal": "at most", "less_than": "less than"}  # fmt: skip
            return f"{place}: must be {bound[detail['type']]} {limit}, not {shown}"
        case kind if kind in _WANTED:
            return f"{place}: must be {_WANTED[kind]}, not {shown}"
        case "string_pattern_mismatch" if examples := _examples(at, tree):
            return f"{place}: write it as in {examples[0]}, not {shown}"
        case "too_short" | "string_too_short":
            return f"{place} is empty: at least {context.get('min_length')} is needed.{_empty_hint(at)}"
        case "too_long" | "string_too_long":
            return f"{place}: is too long: {context.get('max_length')} at most"
        case "value_error":
            words = detail["msg"].removeprefix("Value error, ")
            for path, text in written.items():
                if path[: len(at)] == at:  # what came from the environment may be a secret
                    for hidden in (resolved[path], shown_url(resolved[path])):
                        words = words.replace(f"'{hidden}'", f"'{shown_url(text)}'")
            return f"{place}: {words}"
        case _:
            return f"{place}: {detail['msg'][:1].lower()}{detail['msg'][1:]}, not {shown}"


def _tag(at: KeyPath) -> str:
    """The key by which the union at this path is told apart."""
    return "kind" if at[:1] == ("runtime",) else "engine"


def _tags(at: KeyPath) -> str:
    return ", ".join(sorted(RUNTIME_TYPES if _tag(at) == "kind" else ENGINE_TYPES))


def _key_hint(at: KeyPath, tree: Mapping[str, Any]) -> str:
    section = section_at(at[:-1], tree)
    key = str(at[-1])
    if section is None:
        return ""
    others = [name for name, engine in ENGINE_TYPES.items() if key in engine.model_fields]
    if len(at) == 3 and at[0] == "deployments" and others:
        engine = tree["deployments"][at[1]]["engine"]  # known: it has a section
        started = [name for name, kind in ENGINE_TYPES.items() if issubclass(kind, ManagedBase)]
        whose = "engines that Inferry starts" if others == started else f"engine {' or '.join(others)}"
        return f" '{key}' is for {whose}, and this one is '{engine}'."
    return did_you_mean(key, section.model_fields)


def _examples(at: KeyPath, tree: Mapping[str, Any]) -> list[Any] | None:
    section = section_at(at[:-1], tree)
    field = None if section is None else section.model_fields.get(str(at[-1]))
    return None if field is None else field.examples


def _empty_hint(at: KeyPath) -> str:
    return _missing_hint(at).rstrip() if at[-1] == "deployments" else ""


def _missing_hint(at: KeyPath) -> str:
    match at[-1]:
        case "deployments":
            return " ('inferry init' writes an example)"
        case "endpoints":
            return " [http://HOST:PORT/v1]"
        case "model":
            return " and the model to serve"
    return ""
