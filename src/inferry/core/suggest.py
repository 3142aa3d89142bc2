"""'Did you mean ...?' for a word that is not among the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

WORD_CHARS_MAX = 500


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'replicas'?`, or ` Known: a, b.` when nothing is near; empty if nothing is known."""
    names = sorted(known)
    # A word that is far longer than all names is near to none of them, and could cost seconds to compare.
    if len(word) <= WORD_CHARS_MAX:
        near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        near = near or [name for name in names if name.lower() == word.lower()]
        if near:
            return f" Did you mean '{near[0]}'?"
    if names:
        return f" Known: {', '.join(names)}."
    return ""
