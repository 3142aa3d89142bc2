"""Random texts, randomly cut, against an oracle that sees the whole text and knows nothing of streams."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from inferry.core.request import CHAT

from .wire import compiled, run, stream_of, text_of

ALPHABET = ["a", "b", "c", "d", "e", "x", "1", "2", " ", "é", "😀", "_", "A", "\n", '"', "\\"]
TERMS = ["ab", "abc", "bcd", "é1", "a b", "😀x", "cab"]
WORDS = ["x", "ab", "dé"]
PATTERNS = [r"\bx[12]{1,3}\b", "ab|abcde|cd{1,4}", "(?:a|é){2,3}?b?", r"d[^d]{0,4}e"]
RULES: list[dict[str, Any]] = [
    {"terms": TERMS, "action": "mask", "mask_with": "<T>"},
    {"terms": WORDS, "whole_words": True, "ignore_case": False, "action": "mask", "mask_with": "<W>"},
    {"patterns": PATTERNS, "action": "mask", "mask_with": "<P>"},
]


def spans_of(rule: dict[str, Any], text: str) -> list[tuple[int, int]]:
    if "patterns" in rule:
        # Python's re prefers alternatives in order, as RE2 does; its \b must be ASCII's.
        joined = "|".join(f"(?:{each})" for each in rule["patterns"])
        return [found.span() for found in re.finditer(joined, text, re.ASCII)]
    found = []
    for term in rule["terms"]:
        for at in range(len(text) - len(term) + 1):
            part = text[at : at + len(term)]
            same = part == term if rule.get("ignore_case") is False else part.lower() == term.lower()
            around = text[at - 1 : at] if at else ""
            around += text[at + len(term) : at + len(term) + 1]
            if same and not (rule.get("whole_words") and any(c.isalnum() or c == "_" for c in around)):
                found.append((at, at + len(term)))
    return found


def oracle(rules: list[dict[str, Any]], text: str) -> tuple[str, bool]:
    """(what a client may read, whether it was blocked)."""
    spans = sorted((start, at, end) for at, rule in enumerate(rules) for start, end in spans_of(rule, text))
    out, here = "", 0
    for start, at, end in spans:
        if start > here:
            out += text[here:start]
        if rules[at]["action"] == "block":
            return out, True
        if start >= here:
            out += rules[at]["mask_with"]
        here = max(here, end)
    return out + text[here:], False


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("blocking", [None, 0, 1, 2])
def test_random_texts(seed: int, blocking: int | None) -> None:
    """Masked or blocked text, over any split, is what the oracle makes of the whole; the bound holds."""
    random_one = random.Random(seed * 4 + (blocking if blocking is not None else 3))
    rules = [{**rule, "action": "block"} if at == blocking else rule for at, rule in enumerate(RULES)]
    filters = compiled(*rules)
    for _ in range(120):
        text = "".join(random_one.choices(ALPHABET, k=random_one.randint(0, 40)))
        pieces, at = [], 0
        while at < len(text):
            size = random_one.choice([1, 1, 2, 3, 7])
            pieces.append(text[at : at + size])
            at += size
        stream = filters.stream(CHAT, "t", None)
        assert stream is not None
        out = b""
        for each in stream_of("chat", pieces):
            out += stream.feed(each)
            assert stream.blocked is not None or stream.held_chars <= filters.hold_back_chars_max
        out += stream.finish()
        assert (text_of("chat", out), stream.blocked is not None) == oracle(rules, text), (text, pieces)


def test_flags_of_random_texts() -> None:
    """Rules that only flag find the same over any split, hold nothing back and change no byte."""
    random_one = random.Random(7)
    filters = compiled(*({**rule, "action": "flag"} for rule in RULES))
    assert filters.hold_back_chars_max == 0
    for _ in range(300):
        text = "".join(random_one.choices(ALPHABET, k=random_one.randint(0, 12)))
        stream = filters.stream(CHAT, "t", None)
        assert stream is not None
        events = stream_of("chat", list(text))
        assert run(stream, events) == b"".join(events)
        assert stream.flags == {f"r{at}" for at, rule in enumerate(RULES) if spans_of(rule, text)}


def test_the_unsplit_run_is_the_same_code() -> None:
    """A whole answer is masked as the stream of it is."""
    random_one = random.Random(11)
    filters = compiled(*RULES)
    for _ in range(200):
        text = "".join(random_one.choices(ALPHABET, k=30))
        body = stream_body(text)
        verdict = filters.whole(CHAT, body, "t", None)
        wanted, _ = oracle(RULES, text)
        got = getattr(verdict, "body", body)
        assert got == (stream_body(wanted) if wanted != text else body)


def stream_body(text: str) -> bytes:
    import msgspec

    return msgspec.json.encode({"id": "c", "choices": [{"index": 0, "message": {"content": text}}]})
