"""One text that comes in pieces: found spans are masked or end it, and only what may still change waits.

The same object reads a text that is there whole (one `feed`, final), so that both can't differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferry.gateway.filters.rule import Rule


class RunningText:
    """State of one text. Rules that block or mask hold back; rules that flag only look on."""

    __slots__ = (
        "_at",
        "_buffer",
        "_found",
        "_looking",
        "_sent",
        "_watch",
        "blocked_by",
        "flags",
        "masked_by",
    )

    def __init__(self, rules: Sequence[Rule]) -> None:
        holding = [rule for rule in rules if rule.action != "flag"]
        flagging = [rule for rule in rules if rule.action == "flag"]
        self._looking = [(rule, matcher) for rule in holding for matcher in rule.matchers]
        self._watch = _Watch(flagging) if flagging else None
        self._buffer = ""
        self._at = [0] * len(self._looking)
        self._sent = 0
        self._found: list[tuple[int, int, int]] = []
        self.blocked_by: Rule | None = None
        """Set: the text ended right before what that rule found."""
        self.masked_by: set[str] = set()
        self.flags: set[str] = set()

    @property
    def held_chars(self) -> int:
        """Characters that have come and were neither sent nor masked yet."""
        return max(0, len(self._buffer) - self._sent)

    def feed(self, text: str, final: bool = False) -> str:
        """What may go on now."""
        if self.blocked_by is not None:
            return ""
        if self._watch is not None:
            self.flags |= self._watch.feed(text, final)
        if not self._looking:
            return text
        buffer = self._buffer = self._buffer + text
        waits = len(buffer)
        for index, (_, matcher) in enumerate(self._looking):
            spans, at = matcher.scan(buffer, self._at[index], final)
            self._at[index] = at
            waits = min(waits, at)
            self._found += [(start, index, end) for start, end in spans]
        out = self._released(waits) if self._found else self._plain(self._sent, waits)
        self._sent = max(self._sent, waits)
        self._forget(waits - 1)
        return out

    def _released(self, waits: int) -> str:
        """Everything before `waits`, with what was found there replaced. Of overlapping finds the first names the
        replacement, and they count as one."""
        out: list[str] = []
        at = self._sent
        self._found.sort()
        later: list[tuple[int, int, int]] = []
        for start, index, end in self._found:
            if start >= waits:
                later.append((start, index, end))
                continue
            rule = self._looking[index][0]
            if start > at:
                out.append(self._plain(at, start))
                at = start
            if rule.action == "block":
                self.blocked_by = rule
                break
            self.masked_by.add(rule.name)
            if end > at:
                out.append(self._masked(at, end, rule.mask_with if start == at else ""))
                at = end
        else:
            out.append(self._plain(at, waits))
            at = max(at, waits)
        self._found = later
        self._sent = at
        return "".join(out)

    def _forget(self, before: int) -> None:
        """Drop what is neither held nor the one character of context that matchers look at."""
        if before <= 0:
            return
        self._buffer = self._buffer[before:]
        self._sent -= before
        self._at = [at - before for at in self._at]
        self._found = [(start - before, index, end - before) for start, index, end in self._found]

    def _plain(self, start: int, end: int) -> str:
        return self._buffer[start:end]

    def _masked(self, start: int, end: int, mask: str) -> str:
        """`mask` is empty where an overlapping find goes on behind one that was replaced."""
        return mask


class _Watch:
    """Looks at a text for rules that only flag: keeps what it needs, holds nothing back."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._looking = [(rule, matcher) for rule in rules for matcher in rule.matchers]
        self._buffer = ""
        self._at = [0] * len(self._looking)

    def feed(self, text: str, final: bool) -> set[str]:
        buffer = self._buffer + text
        found: set[str] = set()
        waits = len(buffer)
        for index, (rule, matcher) in enumerate(self._looking):
            spans, at = matcher.scan(buffer, self._at[index], final)
            self._at[index] = at
            waits = min(waits, at)
            if spans:
                found.add(rule.name)
        before = max(0, waits - 1)
        self._buffer = buffer[before:]
        self._at = [at - before for at in self._at]
        return found
