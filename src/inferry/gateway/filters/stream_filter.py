"""Filters one streamed answer: whole events in, whole events out."""

from __future__ import annotations

from collections.abc import Sequence

from inferry.gateway.filters.external_check import Check
from inferry.gateway.filters.verdict import Blocked, Verdict


class StreamFilter:
    """Feed what EventGate lets through; send what comes back. Then look at `blocked` and `checks`."""

    blocked: Blocked | None
    """Set: the stream has just been ended in its dialect's way, in what feed/finish/resolve returned. Send that,
    end the answer (sink.end), abort the upstream. Every later call returns b""."""
    flags: frozenset[str]
    """Flag rules that found something so far."""
    masked: frozenset[str]
    """Mask rules that replaced something so far."""
    checks: Sequence[Check]
    """Not empty: ask these (CheckCall), and give their joined verdict to `resolve`. Go on feeding meanwhile."""
    held_bytes: int
    """Bytes that wait for an outside verdict; pause the upstream while it is above 1 MiB."""

    def feed(self, data: bytes) -> bytes:
        raise NotImplementedError

    def finish(self) -> bytes:
        """The upstream's answer is complete. If `checks` is not empty then, the answer ends after `resolve`
        has emptied it."""
        raise NotImplementedError

    def discard(self) -> None:
        """The stream broke off: what is held is dropped."""
        raise NotImplementedError

    def resolve(self, verdict: Verdict) -> bytes:
        """The answer to `checks`; what may go on now. `checks` may hold the next ones then."""
        raise NotImplementedError
