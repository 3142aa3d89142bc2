"""A running text that is JSON itself: a tool call's arguments.

It is looked at as a reader of the JSON sees it, with the escapes inside its strings decoded, and goes on as it was
written. A mask keeps it JSON: inside a string the found text is replaced by the mask, escaped; quotes, braces and
the like stay; outside of strings each digit becomes a 9, so that a number stays a number, and what has no place in
JSON there becomes an x.

    {"mail": "me\\u0040example.com", "card": 4111111111111111}
    {"mail": "[removed]", "card": 9999999999999999}
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from inferry.gateway.filters.rule import Rule
from inferry.gateway.filters.running_text import RunningText

_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_MARKS = frozenset('{}[]:,"+-. \t\r\n')
_LITERALS = ("true", "false", "null")
_WORD = re.compile(r"[^\s{}\[\]:,\"+.0-9-]+")
ESCAPE_CHARS_MAX = 12
"""A pair of surrogates, `\\ud83d\\ude00`: so much of one character may wait, besides what patterns need."""


class ArgumentText(RunningText):
    """As RunningText, of JSON source."""

    __slots__ = ("_escape", "_in_string", "_inside", "_sources")

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__(rules)
        self._sources: list[str] = []
        """How each character of the buffer is written."""
        self._inside: list[bool] = []
        """Whether it stands in a string."""
        self._in_string = False
        self._escape = ""

    @property
    def held_chars(self) -> int:
        return super().held_chars + len(self._escape)

    def feed(self, text: str, final: bool = False) -> str:
        if self.blocked_by is not None:
            return ""
        if not self._looking:
            if self._watch is None:
                return text
            super().feed(self._decoded(text, final), final)
            self._sources.clear()
            self._inside.clear()
            return text
        return super().feed(self._decoded(text, final), final)

    def _decoded(self, text: str, final: bool) -> str:
        chars: list[str] = []
        for sign in text:
            if self._escape:
                self._escape += sign
                self._finish_escape(chars, final=False)
            elif sign == "\\" and self._in_string:
                self._escape = sign
            else:
                if sign == '"':
                    self._take(chars, sign, sign, inside=False)
                    self._in_string = not self._in_string
                else:
                    self._take(chars, sign, sign, self._in_string)
        if final and self._escape:
            self._finish_escape(chars, final=True)
        return "".join(chars)

    def _take(self, chars: list[str], char: str, written: str, inside: bool) -> None:
        chars.append(char)
        self._sources.append(written)
        self._inside.append(inside)

    def _finish_escape(self, chars: list[str], final: bool) -> None:
        """Take the escape if it is complete; `final`: whatever there is of it."""
        escape = self._escape
        kind = escape[1:2]
        if kind != "u" and kind:
            self._take(chars, _SIMPLE.get(kind, kind), escape, True)
            self._escape = ""
            return
        if not final and len(escape) < 6:
            return
        first = _code(escape[2:6])
        if 0xD800 <= first < 0xDC00 and not final and len(escape) < 8 and "\\u".startswith(escape[6:8]):
            return  # the second half is still to come
        if 0xD800 <= first < 0xDC00 and escape[6:8] == "\\u":
            if not final and len(escape) < 12:
                return
            second = _code(escape[8:12])
            if 0xDC00 <= second < 0xE000:
                char = chr(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
                self._take(chars, char, escape, True)
                self._escape = ""
                return
        # Half of a pair alone is no character; what stands behind it is read by itself.
        self._escape = ""
        self._take(chars, "\ufffd" if first < 0 or 0xD800 <= first < 0xE000 else chr(first), escape[:6], True)
        rest = escape[6:]
        if rest:
            chars.append(self._decoded(rest, final))

    def _forget(self, before: int) -> None:
        if before > 0:
            del self._sources[:before]
            del self._inside[:before]
        super()._forget(before)

    def _plain(self, start: int, end: int) -> str:
        return "".join(self._sources[start:end])

    def _masked(self, start: int, end: int, mask: str) -> str:
        out: list[str] = []
        left = msgspec.json.encode(mask)[1:-1].decode()
        # Judged by the find alone: what stands around it may have gone out, or be still to come.
        bare = "".join(" " if self._inside[index] else self._sources[index] for index in range(start, end))
        words = _WORD.findall(bare)
        is_json = all(word in "eE" or any(word in literal for literal in _LITERALS) for word in words)
        for index in range(start, end):
            sign = self._sources[index]
            if self._inside[index]:
                out.append(left)
                left = ""
            elif sign.isdigit():
                out.append("9")
            else:
                out.append(sign if sign in _MARKS or (is_json and sign.isalpha()) else "x")
        return "".join(out)


def _code(digits: str) -> int:
    try:
        return int(digits, 16) if len(digits) == 4 else -1
    except ValueError:
        return -1
