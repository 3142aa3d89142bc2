"""Which trace a request belongs to, and what the engine is told about it (W3C Trace Context, level 1).

Source: https://www.w3.org/TR/trace-context/. Done for every request while traces are on, so without locks and
without the OpenTelemetry library.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

# A later version may have more behind the flags; 'ff' is no version.
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_STATE_BYTES_MAX = 8192


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Ids of one request's spans."""

    trace_id: int
    parent_id: int
    """The caller's span; 0: the trace begins here."""
    span_id: int
    """The gateway's span."""
    upstream_id: int
    """The span of the engine's part; what the engine records hangs below it."""
    sampled: bool
    state: bytes = b""
    """The caller's `tracestate`, passed on as it came."""

    @property
    def lines(self) -> bytes:
        """Header lines for the engine; they stand instead of the client's `traceparent` and `tracestate`."""
        line = b"traceparent: 00-%032x-%016x-%02x\r\n" % (self.trace_id, self.upstream_id, self.sampled)
        return line + b"tracestate: " + self.state + b"\r\n" if self.state else line


class TraceContexts:
    """Begins a context per request."""

    def __init__(self, sample: float, generator: random.Random | None = None) -> None:
        """`sample`: share of requests to record where the caller has not decided."""
        self._sample = sample
        generator = generator or random.Random()  # seeded by the system, so differently in each process
        self._bits = generator.getrandbits
        self._share = generator.random

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> TraceContext:
        """Go on with the trace that the caller's headers name, or begin one."""
        parent = None
        count = 0
        state = b""
        for name, value in headers:
            if name == b"traceparent":
                parent, count = value, count + 1
            elif name == b"tracestate":
                state = state + b"," + value if state else value
        bits = self._bits
        if parent is not None and count == 1:
            match = _PARENT.fullmatch(parent)
            if match is not None and not (match[1] == b"00" and match[5]):
                trace_id, parent_id = int(match[2], 16), int(match[3], 16)
                if trace_id and parent_id:
                    sampled = bool(int(match[4], 16) & _SAMPLED)
                    state = state if len(state) <= _STATE_BYTES_MAX else b""
                    return TraceContext(trace_id, parent_id, bits(64) or 1, bits(64) or 1, sampled, state)
        return TraceContext(bits(128) or 1, 0, bits(64) or 1, bits(64) or 1, self._share() < self._sample)
