"""What an RE2 pattern needs: how long its matches can get, and which texts could still become one.

RE2 tells neither, so the pattern is read here. `prefixes` is the pattern of all texts that are the beginning of a
match and could still grow: searched at the end of a stream's text, it gives the first character that must wait.

    foo(bar)?   max_chars 6   prefixes  f, fo, foo, foob, fooba

Only patterns that RE2 has compiled are read, so nothing here checks the syntax.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

REPEAT_MAX = 1000
"""RE2 refuses larger counts (kMaxRepeat in its parser)."""
_ASSERTING_ESCAPES = "bBAz"
_COUNT = re.compile(r"\{(\d+)(,?)(\d*)\}")
_ESCAPE = re.compile(r"\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[^}]*\}|[0-9A-Fa-f]{2})|[0-7]{1,3}|.)", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\[pPx]\{[^}]*\}|\\.|[^\]\\])*\]", re.DOTALL)
_OPENING = re.compile(r"\((?:\?P?<\w+>|\?([imsU-]*):)?")
_FLAGS = re.compile(r"\(\?([imsU-]+)\)")


class Unsupported(ValueError):
    """RE2 takes the pattern, but not even its length can be told."""


@dataclass(frozen=True, slots=True)
class One:
    """Exactly one character: a literal, a class, an escape."""

    source: str


@dataclass(frozen=True, slots=True)
class Between:
    """No character: `^`, `$`, `\\b` and the like."""

    source: str


@dataclass(frozen=True, slots=True)
class Series:
    parts: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Choice:
    branches: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Repeat:
    part: Node
    least: int
    most: int | None
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class Flagged:
    """`(?i:...)`"""

    flags: str
    part: Node


Node = One | Between | Series | Choice | Repeat | Flagged


def read_pattern(pattern: str) -> Node:
    """Raises Unsupported."""
    if flags := _FLAGS.match(pattern):
        return Flagged(flags[1], _Reader(pattern, flags.end()).choice())
    return _Reader(pattern, 0).choice()


def max_chars(node: Node) -> int | None:
    """Of the longest match; None: there is no longest."""
    match node:
        case One():
            return 1
        case Between():
            return 0
        case Series(parts) | Choice(parts):
            lengths = [max_chars(part) for part in parts]
            known = [length for length in lengths if length is not None]
            if len(known) < len(lengths):
                return None
            return sum(known) if isinstance(node, Series) else max(known)
        case Repeat(part, _, most):
            length = max_chars(part)
            if length == 0 or most == 0:
                return 0
            return None if length is None or most is None else length * most
        case Flagged(_, part):
            return max_chars(part)


def min_chars(node: Node) -> int:
    """Of the shortest match."""
    match node:
        case One():
            return 1
        case Between():
            return 0
        case Series(parts):
            return sum(min_chars(part) for part in parts)
        case Choice(branches):
            return min(min_chars(branch) for branch in branches)
        case Repeat(part, least, _):
            return min_chars(part) * least
        case Flagged(_, part):
            return min_chars(part)


def bounded(node: Node, limit: int) -> Node:
    """The same with each `*`, `+` and `{n,}` ended where the whole match could get longer than `limit`.

    What the rest of a branch leaves is shared out evenly over them. Raises Unsupported.
    """
    match node:
        case Choice(branches):
            return Choice([bounded(branch, limit) for branch in branches])
        case Series([only]):
            return Series([bounded(only, limit)])
        case Flagged(flags, part):
            return Flagged(flags, bounded(part, limit))
    if max_chars(node) is not None:
        return node
    endless = _count_endless(node)
    fixed = max_chars(_with_most(node, 0))
    assert fixed is not None
    if fixed > limit:
        raise Unsupported(f"its shortest form already takes up to {fixed} characters")
    return _with_most(node, (limit - fixed) // max(1, endless))


def source(node: Node) -> str:
    """As RE2 reads it; groups capture nothing."""
    match node:
        case One(text) | Between(text):
            return text
        case Series(parts):
            return "".join(
                f"(?:{source(part)})" if isinstance(part, Choice) else source(part) for part in parts
            )
        case Choice(branches):
            return "|".join(source(branch) for branch in branches)
        case Repeat(part, least, most, lazy):
            return _repeated(f"(?:{source(part)})", least, most, "?" if lazy else "")
        case Flagged(flags, part):
            return f"(?{flags}:{source(part)})"


def prefixes(node: Node) -> str | None:
    """Source of the pattern described above; None: a match is never waited for.

    It may match the empty text too, which means nothing.
    """
    match node:
        case One() | Between():
            return None
        case Series(parts):
            # From the end: what may follow once a part is complete.
            after: str | None = None
            for index in range(len(parts) - 1, -1, -1):
                inner = prefixes(parts[index])
                if index == len(parts) - 1:
                    after = inner
                    continue
                complete = f"(?:{source(parts[index])})" + (f"(?:{after})?" if after is not None else "")
                after = complete if inner is None else f"{inner}|{complete}"
            return after
        case Choice(branches):
            found = [inner for branch in branches if (inner := prefixes(branch)) is not None]
            return "|".join(found) or None
        case Repeat(part, _, most):
            assert most is not None, "bounded first"
            inner = prefixes(part)
            if most <= 1:
                return inner if most else None
            return _repeated(f"(?:{source(part)})", 0, most - 1, "") + (f"(?:{inner})?" if inner else "")
        case Flagged(flags, part):
            inner = prefixes(part)
            return None if inner is None else f"(?{flags}:{inner})"


def _repeated(part: str, least: int, most: int | None, lazy: str) -> str:
    """`part{least,most}`, in several counts where RE2 allows no larger one."""
    if most is None:
        return f"{part}{{{least},}}{lazy}"
    if most <= REPEAT_MAX:
        return f"{part}{{{least},{most}}}{lazy}"
    pieces: list[str] = []
    while most > 0:
        count = min(most, REPEAT_MAX)
        pieces.append(f"{part}{{{min(least, count)},{count}}}{lazy}")
        least, most = max(0, least - count), most - count
    return "(?:" + "".join(pieces) + ")"


def _count_endless(node: Node, inside: bool = False) -> int:
    match node:
        case One() | Between():
            return 0
        case Series(parts) | Choice(parts):
            return sum(_count_endless(part, inside) for part in parts)
        case Repeat(part, _, most):
            if most is not None and most <= 1:
                return _count_endless(part, inside)
            if most is None and inside:
                raise Unsupported(
                    "it has a * or + inside something that is repeated: write the inner one with a bound, "
                    "as in {1,20}"
                )
            return (most is None) + _count_endless(part, True)
        case Flagged(_, part):
            return _count_endless(part, inside)


def _with_most(node: Node, spare: int) -> Node:
    match node:
        case One() | Between():
            return node
        case Series(parts):
            return Series([_with_most(part, spare) for part in parts])
        case Choice(branches):
            return Choice([_with_most(branch, spare) for branch in branches])
        case Repeat(part, least, most, lazy):
            inner = _with_most(part, spare)
            if most is None:
                length = max_chars(inner)
                assert length is not None
                most = least + (spare // length if length else 0)
            return Repeat(inner, least, most, lazy)
        case Flagged(flags, part):
            return Flagged(flags, _with_most(part, spare))


class _Reader:
    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self._at = at

    def choice(self) -> Node:
        branches = [self._series()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._series())
        return branches[0] if len(branches) == 1 else Choice(branches)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _series(self) -> Node:
        parts: list[Node] = []
        while (sign := self._peek()) and sign not in "|)":
            if self._text.startswith("\\Q", self._at):
                parts += self._quoted()
            else:
                parts.append(self._single())
            self._counts(parts)
        return Series(parts)

    def _quoted(self) -> list[Node]:
        text, _, _ = self._text[self._at + 2 :].partition("\\E")
        self._at = min(len(self._text), self._at + 2 + len(text) + 2)
        return [One(re.escape(sign)) for sign in text]

    def _counts(self, parts: list[Node]) -> None:
        """Quantifiers after the last part."""
        while parts:
            sign = self._peek()
            count = _COUNT.match(self._text, self._at)
            if sign and sign in "*+?":
                least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
                self._at += 1
            elif count:
                least = int(count[1])
                most = least if not count[2] else int(count[3]) if count[3] else None
                self._at = count.end()
            else:
                return
            lazy = self._peek() == "?"
            self._at += lazy
            parts[-1] = Repeat(parts[-1], least, most, lazy)

    def _single(self) -> Node:
        sign = self._peek()
        if sign == "(":
            return self._group()
        if sign == "[":
            return One(self._take(_CLASS))
        if sign == "\\":
            text = self._take(_ESCAPE)
            if text == "\\C":
                raise Unsupported("\\C stands for a byte, not for a character")
            return Between(text) if text[1] in _ASSERTING_ESCAPES else One(text)
        self._at += 1
        if sign in "^$":
            return Between(sign)
        return One(sign if sign == "." else re.escape(sign))

    def _group(self) -> Node:
        if _FLAGS.match(self._text, self._at):
            raise Unsupported("flags for the rest of a group are not supported: write (?i:...) around it")
        flags = _OPENING.match(self._text, self._at)
        assert flags
        self._at = flags.end()
        inner = self.choice()
        self._at += 1  # the closing parenthesis
        return Flagged(flags[1], inner) if flags[1] else Series([inner])

    def _take(self, what: re.Pattern[str]) -> str:
        found = what.match(self._text, self._at)
        if found is None:
            raise Unsupported(f"'{self._text[self._at : self._at + 20]}' is not understood")
        self._at = found.end()
        return found[0]
