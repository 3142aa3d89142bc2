"""How a replica's requests of the last seconds went. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestCounts:
    requests: int = 0
    failures: int = 0
    first_bytes: int = 0
    """Streams whose time to first token is known."""
    ttft_sum_s: float = 0.0

    def __add__(self, other: RequestCounts) -> RequestCounts:
        return RequestCounts(
            self.requests + other.requests,
            self.failures + other.failures,
            self.first_bytes + other.first_bytes,
            self.ttft_sum_s + other.ttft_sum_s,
        )


_NONE = RequestCounts()


class RecentRequests:
    """Two halves of a window, the present one and the one before: between half and all of `window_s` is counted,
    for four numbers however many requests there are."""

    __slots__ = ("_before", "_failures", "_first_bytes", "_half_s", "_requests", "_since_s", "_ttft_sum_s")

    def __init__(self, window_s: float) -> None:
        self._half_s = window_s / 2
        self._since_s = 0.0
        self._before = _NONE
        self._clear()

    def add(self, now_s: float, *, failed: bool, ttft_s: float | None = None) -> None:
        """One more that ended."""
        self._turn_over(now_s)
        self._requests += 1
        self._failures += failed
        if ttft_s is not None:
            self._first_bytes += 1
            self._ttft_sum_s += ttft_s

    def counts(self, now_s: float) -> RequestCounts:
        self._turn_over(now_s)
        return self._before + self._present()

    def _present(self) -> RequestCounts:
        return RequestCounts(self._requests, self._failures, self._first_bytes, self._ttft_sum_s)

    def _turn_over(self, now_s: float) -> None:
        age_s = now_s - self._since_s
        if age_s < self._half_s:
            return
        self._before = self._present() if age_s < 2 * self._half_s else _NONE
        self._since_s = now_s if age_s >= 2 * self._half_s else self._since_s + self._half_s
        self._clear()

    def _clear(self) -> None:
        self._requests = self._failures = self._first_bytes = 0
        self._ttft_sum_s = 0.0
