"""Everybody's turn once in a while, a few at a time: 1,000 requests looked at in one go held up the others for 3 ms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class InTurn(Generic[T]):
    """Shares out a changing crowd over a number of calls, and then begins anew."""

    def __init__(self, calls: int) -> None:
        self._calls = calls
        self._calls_left = 0
        self._left: list[T] = []

    def next(self, everybody: Iterable[T]) -> list[T]:
        """Whose turn it is. Who comes meanwhile is there in the next round; who has left may still be named."""
        if not self._calls_left:
            self._calls_left = self._calls
            self._left = list(everybody)
        count = -(-len(self._left) // self._calls_left)
        self._calls_left -= 1
        left, self._left = self._left, self._left[count:]
        return left[:count]
