"""Hints for a word that is not known."""

from __future__ import annotations

import pytest

from inferry.core.suggest import WORD_CHARS_MAX, did_you_mean


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("replcas", ["replicas", "restart"], " Did you mean 'replicas'?"),
        ("zzz", ["b", "a"], " Known: a, b."),
        ("VLLM", ["sglang", "vllm"], " Did you mean 'vllm'?"),
        ("zzz", [], ""),
        ("", ["a"], " Known: a."),
        ("model", iter(["mode", "models"]), " Did you mean 'models'?"),
    ],
)
def test_hint(word: str, known: list[str], hint: str) -> None:
    """The nearest name, or all of them in order, or nothing."""
    assert did_you_mean(word, known) == hint


def test_a_word_of_any_length_is_cheap() -> None:
    """A client can send a name as long as a body may be: beyond a bound it is compared with nothing."""
    near = "c" * (WORD_CHARS_MAX - 1)
    assert did_you_mean("c" * WORD_CHARS_MAX, [near]) == f" Did you mean '{near}'?"
    assert did_you_mean("c" * (WORD_CHARS_MAX + 1), [near]) == f" Known: {near}."
