"""'Did you mean ...?' for a word that is not among the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'replicas'?`, or ` Known: a, b.` when nothing is near; empty if nothing is known."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f" Did you mean '{near[0]}'?"
    if names:
        return f" Known: {', '.join(names)}."
    return ""
