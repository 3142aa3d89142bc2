"""Chance from a run's seed: one stream per purpose, so that a change to one thing leaves the others as they were."""

from __future__ import annotations

from random import Random


def stream(seed: int, *purpose: object) -> Random:
    """The same numbers for the same words, in every process and Python (a text as seed goes through SHA-512)."""
    return Random(":".join(map(str, (seed, *purpose))))
