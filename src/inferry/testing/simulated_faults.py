"""Faults on command: what to break, when, how often. Who carries them out is in simulated_app.py.

kind          what the engine does
crash         dies as by kill -9
stall         sends nothing for `seconds`, then goes on
slow          takes `factor` times as long
bad_bytes     sends bytes that are not HTTP; with where=event, an SSE event that is no JSON
cut           closes the connection in mid-answer
error_status  answers `status`; after the stream has begun, an error frame and [DONE], as vLLM does
refuse        closes the connection at once; commanded over HTTP: the port refuses for `seconds`
loading       answers 503 on every route for `seconds`, as an engine that loads its model
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class FaultKind(StrEnum):
    CRASH = "crash"
    STALL = "stall"
    SLOW = "slow"
    BAD_BYTES = "bad_bytes"
    CUT = "cut"
    ERROR_STATUS = "error_status"
    REFUSE = "refuse"
    LOADING = "loading"


WHOLE_ENGINE = frozenset({FaultKind.REFUSE, FaultKind.LOADING})
"""Begin when commanded and last `seconds`; the others wait for a request."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to break. `after_tokens` counts the tokens of the request that it hits."""

    kind: FaultKind
    after_tokens: int = 0
    seconds: float = 5.0
    status: int = 500
    factor: float = 10.0
    where: str = "framing"


class FaultError(ValueError):
    """A fault that can't be understood; the message says which part."""


_FIELDS = {"after_tokens": int, "seconds": float, "status": int, "factor": float, "where": str}


def read_fault(wanted: dict[str, Any]) -> Fault:
    """The fault that `{"kind": ..., ...}` asks for, without `times`. Raises FaultError."""
    kinds = ", ".join(FaultKind)
    kind = wanted.get("kind")
    if kind not in tuple(FaultKind):
        raise FaultError(f"kind must be one of {kinds}, not {kind!r}")
    values: dict[str, Any] = {}
    for name, value in wanted.items():
        if name in ("kind", "times"):
            continue
        if name not in _FIELDS:
            raise FaultError(f"there is no {name!r}: use {', '.join(_FIELDS)}, times")
        try:
            values[name] = _FIELDS[name](value)
        except (TypeError, ValueError):
            raise FaultError(f"{name} must be {_FIELDS[name].__name__}, not {value!r}") from None
    fault = Fault(FaultKind(kind), **values)
    if fault.after_tokens < 0 or not 0 <= fault.seconds <= 86_400 or not 0 < fault.factor <= 1e6:
        raise FaultError("after_tokens and seconds must be at least 0, factor more than 0")
    if not 400 <= fault.status <= 599:
        raise FaultError(f"status must be 400 to 599, not {fault.status}")
    if fault.where not in ("framing", "event"):
        raise FaultError(f"where must be framing or event, not {fault.where!r}")
    return fault


def read_fault_header(text: str) -> Fault:
    """The fault of `x-simulate-fault: kind[;key=value...]`. Raises FaultError."""
    kind, *parts = [part.strip() for part in text.split(";")]
    wanted: dict[str, Any] = {"kind": kind}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise FaultError(f"write key=value, not {part!r}")
        wanted[key.strip()] = value.strip()
    return read_fault(wanted)


class FaultBoard:
    """Commanded faults, in order; each hits the next `times` requests, or all until cleared."""

    def __init__(self) -> None:
        self._armed: list[tuple[Fault, int | None]] = []

    def arm(self, wanted: dict[str, Any]) -> Fault:
        """Note what was commanded. `times` (default 1) may be null: until cleared. Raises FaultError."""
        fault = read_fault(wanted)
        times = wanted.get("times", 1)
        if times is not None and (not isinstance(times, int) or isinstance(times, bool) or times < 1):
            raise FaultError(
                f"times must be a whole number from 1, or null for 'until cleared', not {times!r}"
            )
        if fault.kind not in WHOLE_ENGINE:
            self._armed.append((fault, times))
        return fault

    def take(self) -> Fault | None:
        """The fault for the request that begins now."""
        if not self._armed:
            return None
        fault, times = self._armed[0]
        if times is not None:
            if times == 1:
                self._armed.pop(0)
            else:
                self._armed[0] = (fault, times - 1)
        return fault

    def clear(self) -> None:
        self._armed.clear()

    def listing(self) -> list[dict[str, Any]]:
        return [{**asdict(fault), "times": times} for fault, times in self._armed]
