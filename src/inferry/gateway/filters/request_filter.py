"""Looks at a request: all its texts, its length and its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Raw

from inferry.core.request import COMPLETIONS, EMBEDDINGS, Route
from inferry.gateway.filters.json_walk import (
    UNREADABLE,
    Blocks,
    Members,
    OnMember,
    Walk,
    decode_items,
    decode_members,
    decode_text,
    encode,
)
from inferry.gateway.filters.media import UNKNOWN, types_of_base64, types_of_url
from inferry.gateway.filters.rule import Rule
from inferry.gateway.filters.verdict import Masked, Passed, Verdict, blocked

UNREADABLE_RULE = "unreadable"
"""Stands in place of a rule's name where JSON can't be read, so that nobody knows what is in it."""
_PROMPTS = (
    "messages",
    "system",
    "prompt",
    "input",
    "instructions",
    "query",
    "documents",
    "content",
    "suffix",
)
_LABELS = frozenset({"name", "id", "call_id", "tool_call_id", "tool_use_id", "url", "image_url"})
_FILES = frozenset({"image_url", "video_url", "audio_url", "file", "input_audio", "source"})
_FILE_LINKS = frozenset({"image_url", "video_url", "audio_url", "file_url", "file_data"})


def filter_request(rules: Sequence[Rule], route: Route, body: bytes) -> Verdict:
    """Every rule of `rules` is applied; the first that blocks ends it."""
    text_rules = [rule for rule in rules if rule.matchers]
    size_rules = [rule for rule in rules if not rule.matchers]
    flags: set[str] = set()
    walk = Walk(text_rules)
    try:
        fields = decode_members(body)
        # Sizes first: they are told in no time, and spare long texts the rest.
        for rule, because in _sizes(size_rules, body):
            if rule.action == "block":
                return blocked(rule.name, "request", because)
            flags.add(rule.name)
        holding = next((rule for rule in text_rules if rule.action != "flag"), None)
        if holding is not None and _has_token_ids(route, fields):
            return blocked(
                holding.name,
                "request",
                "its prompt is a list of token ids, in which nobody can look for texts",
            )
        changed = bool(text_rules) and walk.members(fields)
    except Blocks as ended:
        return blocked(ended.rule.name, "request")
    except UNREADABLE:
        return blocked(UNREADABLE_RULE, "request", "its body is not valid JSON")
    flags |= walk.flags
    if not changed:
        return Passed(frozenset(flags))
    return Masked(encode(fields), frozenset(walk.masked_by), frozenset(flags))


def _sizes(rules: Sequence[Rule], body: bytes) -> Iterator[tuple[Rule, str]]:
    """Rules about length and files that the request does not keep to, and why."""
    if not rules:
        return
    files: set[str] = set()
    walk = Walk((), on_member=_collect(files))
    walk.members(decode_members(body))
    for rule in rules:
        if because := _too_much(rule, walk.chars, files):
            yield rule, because


def request_texts(body: bytes) -> list[str]:
    """What a classifier is asked about: the prompt's texts, in order, without names and ids."""
    texts: list[str] = []

    def on_text(key: str, text: str) -> None:
        if key not in _LABELS and text.strip():
            texts.append(text)

    walk = Walk((), on_text=on_text)
    try:
        for name, raw in decode_members(body).items():
            if name in _PROMPTS:
                walk.value(raw, name)
    except UNREADABLE:
        return []  # `filter_request` refuses it
    return texts


def _too_much(rule: Rule, chars: int, files: set[str]) -> str:
    settings = rule.settings
    if settings.prompt_chars_max is not None and chars > settings.prompt_chars_max:
        return f"its texts have {chars:,} characters, and {settings.prompt_chars_max:,} are allowed"
    if settings.file_types is not None and (strange := sorted(files - set(settings.file_types))):
        allowed = ", ".join(settings.file_types) or "none"
        return f"it holds files of type {', '.join(strange)}; allowed: {allowed}"
    return ""


def _has_token_ids(route: Route, fields: Members) -> bool:
    name = {COMPLETIONS: "prompt", EMBEDDINGS: "input"}.get(route)
    raw = fields.get(name, Raw(b"null")) if name else Raw(b"null")
    if memoryview(raw)[0] != ord("["):
        return False
    return any(memoryview(item)[0] not in b'"{' for item in decode_items(raw))


def _collect(found: set[str]) -> OnMember:
    def on_member(container: str, name: str, members: Mapping[str, Raw]) -> None:
        if name == "data" and container in _FILES:
            named = members.get("media_type") or members.get("format")
            kind = decode_text(named) if named is not None else ""
            found.update(types_of_base64(kind, decode_text(members[name])))
        elif name in _FILE_LINKS or (name == "url" and container in _FILES):
            text = decode_text(members[name])
            bare = name == "file_data" and text[:5].lower() != "data:"
            found.update(types_of_base64(_ending(members), text) if bare else types_of_url(text))
        elif name == "file_id":
            found.add(UNKNOWN)

    return on_member


def _ending(members: Mapping[str, Raw]) -> str:
    name = members.get("filename")
    return decode_text(name).rpartition(".")[2] if name is not None else ""
