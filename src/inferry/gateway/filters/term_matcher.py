"""Finds any of many terms in one pass (Aho and Corasick, 1975), all occurrences, overlapping ones too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import ahocorasick  # type: ignore[import-not-found]

from inferry.gateway.filters.matcher import Spans

_PIECE_CHARS = 256 * 1024
"""The library lets no other thread run before it finds something: so much takes it some 2 ms."""
_AUTOMATON_CHARS = 500_000
"""Nor while it builds an automaton: about 0.15 s for terms of so many characters together. A longer list gets several
automata; 300,000 terms in ten of them are searched for half as fast as in one."""


class TermMatcher:
    """`ignore_case` compares signs one by one (Unicode case folding where that keeps the length)."""

    def __init__(self, terms: Iterable[str], ignore_case: bool, whole_words: bool) -> None:
        """Raises ValueError when there is no term."""
        self._fold = _Folding() if ignore_case else None
        self._whole_words = whole_words
        known = _sorted({self._folded(term) for term in terms if term})
        if not known:
            raise ValueError("there is not one term in it")
        self._automata = [ahocorasick.Automaton()]
        chars = 0
        for term, after in zip(known, [*known[1:], ""], strict=True):
            if chars > _AUTOMATON_CHARS:
                self._automata[-1].make_automaton()
                self._automata.append(ahocorasick.Automaton())
                chars = 0
            # Sorted, so that a term that begins another one stands right before it.
            self._automata[-1].add_word(term, (len(term), whole_words or after.startswith(term)))
            chars += len(term)
        self._automata[-1].make_automaton()
        self.hold_back_chars_max = max(map(len, known))
        self._first = frozenset(term[0] for term in known)

    def scan(self, text: str, start: int, final: bool) -> tuple[Spans, int]:
        folded = self._folded(text)
        waits = len(text) if final else self._first_waiting(folded, start)
        spans = [
            (end - length + 1, end + 1)
            for end, (length, _) in self._found(folded, start)
            if end - length + 1 < waits
        ]
        if self._whole_words:
            spans = [span for span in spans if _is_word(text, *span)]
        return sorted(spans), waits

    def _found(self, folded: str, start: int) -> Iterator[tuple[int, tuple[int, bool]]]:
        """(last place, what is known of the term) of each occurrence."""
        for automaton in self._automata:
            found = automaton.iter(folded, start, min(len(folded), start + _PIECE_CHARS))
            yield from found
            for at in range(start + _PIECE_CHARS, len(folded), _PIECE_CHARS):
                found.set(folded[at : at + _PIECE_CHARS])
                yield from found

    def _folded(self, text: str) -> str:
        if self._fold is None:
            return text
        return text.lower() if text.isascii() else text.translate(self._fold)

    def _first_waiting(self, folded: str, start: int) -> int:
        """The first place from which on the rest of the text begins a term that is not complete."""
        size = len(folded)
        for at in range(max(start, size - self.hold_back_chars_max), size):
            if folded[at] in self._first:
                rest = folded[at:]
                for automaton in self._automata:
                    if automaton.match(rest):
                        known = automaton.get(rest, None)
                        if known is None or known[1]:
                            return at
        return size


def _sorted(terms: set[str]) -> list[str]:
    """By their beginnings first: one sort of them all would let no other thread run for long."""
    by_beginning: dict[str, list[str]] = {}
    for term in terms:
        by_beginning.setdefault(term[:2], []).append(term)
    return [term for beginning in sorted(by_beginning) for term in sorted(by_beginning[beginning])]


class _Folding(dict[int, str]):
    """For str.translate: each sign folded by itself. str.lower looks at neighbours (the Greek sigma), and a sign
    must mean the same in every piece of a stream; and the length must stay."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        folded = next((each for each in (sign.casefold(), sign.lower()) if len(each) == 1), sign)
        self[code] = folded
        return folded


def _is_word(text: str, start: int, end: int) -> bool:
    before, behind = text[start - 1 : start] if start else "", text[end : end + 1]
    return not (before.isalnum() or before == "_" or behind.isalnum() or behind == "_")
