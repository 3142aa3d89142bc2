"""Finds patterns with RE2, in linear time, and whatever a check accepts of what they find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import re2  # type: ignore[import-untyped]

from inferry.gateway.filters.matcher import Spans
from inferry.gateway.filters.pattern_shape import (
    Choice,
    Unsupported,
    bounded,
    max_chars,
    min_chars,
    prefixes,
    read_pattern,
    source,
)

HOLD_BACK_CHARS_MAX = 10_000
_MEMORY_BYTES = 64 * 1024 * 1024
Check = Callable[[str], int]
"""How many characters of a candidate, from its start, really are one; 0: none."""


class PatternMatcher:
    """One alternation of patterns; earlier ones win where two begin at the same place, as in RE2 itself."""

    def __init__(
        self,
        patterns: Sequence[str],
        limit: int | None = None,
        check: Check | None = None,
        beginning: str = "",
    ) -> None:
        """`limit`: the longest match of patterns that have no longest. `beginning`: a text that every match begins
        with, which makes long patterns quick to wait for. Raises ValueError in an operator's words.
        """
        nodes = [_read(pattern, limit) for pattern in patterns]
        whole = Choice(nodes)
        length = max_chars(whole)
        assert length is not None
        if length > HOLD_BACK_CHARS_MAX:
            raise ValueError(
                f"its longest match has {length:,} characters, and {HOLD_BACK_CHARS_MAX:,} is the most that a "
                "stream may hold back"
            )
        self.hold_back_chars_max = length
        self._check = check
        self._beginning = beginning.encode()
        self._whole = _compile(source(whole))
        unfinished = prefixes(whole)
        self._unfinished = None if unfinished is None else _compile(rf"(?:{unfinished})\z")
        # One look for both: nearly every piece of text has neither.
        self._either = self._whole if unfinished is None else _compile(rf"{source(whole)}|(?:{unfinished})\z")

    def scan(self, text: str, start: int, final: bool) -> tuple[Spans, int]:
        # RE2 works on bytes; its offsets are turned into characters' only for what is found.
        data = text.encode()
        one_byte = len(data) == len(text)
        at = start if one_byte else len(text[:start].encode())
        if not final and not self._beginning and self._either.search(data, at) is None:
            return [], len(text)
        spans: Spans = []
        waits = len(data) if final else self._first_waiting(data, at)
        end, end_char = at, start
        while True:
            if waits < at:
                waits = self._first_waiting(data, at)
            found = self._whole.search(data, at)
            if found is None or found.start() >= waits:
                break
            begin, stop = found.span()
            if self._check is not None:
                candidate = data[begin:stop].decode()
                taken = self._check(candidate)
                if taken == 0:
                    at = begin + len(candidate[0].encode())
                    continue
                stop = begin + len(candidate[:taken].encode())
            begin_char = begin if one_byte else end_char + len(data[end:begin].decode())
            end, end_char = stop, stop if one_byte else begin_char + len(data[begin:stop].decode())
            spans.append((begin_char, end_char))
            at = stop
        return spans, waits if one_byte else end_char + len(data[end:waits].decode())

    def _first_waiting(self, data: bytes, at: int) -> int:
        if self._beginning:
            return self._first_waiting_beginning(data, at)
        found = None if self._unfinished is None else self._unfinished.search(data, at)
        return len(data) if found is None else int(found.start())

    def _first_waiting_beginning(self, data: bytes, at: int) -> int:
        # RE2 would read such a pattern backwards, with a state for every count in it.
        beginning = self._beginning
        assert self._unfinished is not None
        place = data.find(beginning, at)
        while place >= 0:
            if self._unfinished.match(data, place) is not None:
                return place
            place = data.find(beginning, place + 1)
        for size in range(min(len(beginning) - 1, len(data) - at), 0, -1):
            if data.endswith(beginning[:size]):
                return len(data) - size
        return len(data)


def _read(pattern: str, limit: int | None) -> Any:
    _compile(pattern)
    try:
        node = read_pattern(pattern)
        if min_chars(node) == 0:
            raise ValueError(f"'{pattern}' also matches nothing at all: it would be found everywhere")
        if max_chars(node) is None:
            if limit is None:
                raise ValueError(
                    f"'{pattern}' has matches of any length (* or + or {{n,}}), and a stream can hold back only so "
                    "much: give 'max_chars', or write a bound, as in {1,40}"
                )
            node = bounded(node, limit)
    except Unsupported as error:
        raise ValueError(f"'{pattern}' can't be used here: {error}") from None
    return node


def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES
    options.log_errors = False
    options.never_capture = True
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0]
        detail = detail.decode() if isinstance(detail, bytes) else str(detail)
        raise ValueError(
            f"'{pattern if len(pattern) < 200 else pattern[:197] + '...'}' is no RE2 pattern: {detail}"
        ) from None
