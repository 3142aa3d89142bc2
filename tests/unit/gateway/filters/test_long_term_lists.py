"""Lists of terms that are too long for one automaton."""

from __future__ import annotations

import random

import pytest

from inferry.gateway.filters import term_matcher
from inferry.gateway.filters.term_matcher import TermMatcher


@pytest.mark.parametrize("whole_words", [False, True])
def test_several_automata_find_what_one_finds(monkeypatch: pytest.MonkeyPatch, whole_words: bool) -> None:
    """Terms that begin, end and overlap each other give the same places and the same waits, however they are shared
    out."""
    rng = random.Random(5)
    texts = ["".join(rng.choices("ab c", k=rng.randint(1, 40))) for _ in range(400)]
    for _ in range(20):
        terms = ["".join(rng.choices("abc", k=rng.randint(1, 6))) for _ in range(rng.randint(2, 30))]
        monkeypatch.setattr(term_matcher, "_AUTOMATON_CHARS", 10_000)
        one = TermMatcher(terms, True, whole_words)
        monkeypatch.setattr(term_matcher, "_AUTOMATON_CHARS", 3)
        several = TermMatcher(terms, True, whole_words)
        for text in texts:
            for final in (False, True):
                assert several.scan(text, 0, final) == one.scan(text, 0, final), (terms, text)
        assert several.hold_back_chars_max == one.hold_back_chars_max
