"""What finds texts for a rule: terms, patterns and detectors all look like this."""

from __future__ import annotations

from typing import Protocol

Spans = list[tuple[int, int]]


class Matcher(Protocol):
    """Stateless: the running text keeps where it has got to."""

    hold_back_chars_max: int
    """No text longer than this is ever waited for."""

    def scan(self, text: str, start: int, final: bool) -> tuple[Spans, int]:
        """(what was found, the first character that must wait).

        Both from `start` on; what stands before it is context: the character before, or nothing if the text
        begins there. Found are all spans that begin before the character that must wait, in order: these can't
        change any more, whatever follows. `final`: nothing follows, so nothing waits. The next scan begins at
        the character that had to wait.
        """
