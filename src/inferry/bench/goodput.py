"""Which requests were good: whole, and within every limit that was set. And what share of all that were due.

Times count from when a request was due: that is what its user waited, whoever kept it. Requests that failed or
were never sent are bad. Those that the client left as planned count for nothing, unless they had already waited
longer than a limit when it left: without that, slow answers would be left more often, and so look better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from inferry.bench.plan import Slo
from inferry.bench.records import RequestRecord, Verdict
from inferry.bench.request_figures import answer_end_s, mean_gap_ms
from inferry.bench.statistics import wilson
from inferry.core.errors import ConfigError

_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_LIMITS = ("ttft", "itl", "e2e")
_LIMIT = re.compile(r"\s*(\w+)\s*=\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


class Goodput(Struct, frozen=True, kw_only=True):
    """Of the requests that count."""

    good: int
    of: int
    share: float | None
    """None: none counts."""
    between: tuple[float, float]
    """In which the true share lies, with 95 % confidence (Wilson)."""
    per_s: float | None
    """Good requests that were due in a second."""
    missed: dict[str, int] = {}
    """How many failed by which limit: `failed`, `ttft`, `itl`, `e2e`. One request may miss several limits."""


def parse_slo(text: str) -> Slo:
    """`ttft=300ms,itl=50ms,e2e=10s` as limits. ConfigError that names the part that is wrong."""
    limits: dict[str, float] = {}
    for part in text.split(","):
        found = _LIMIT.fullmatch(part)
        if not found:
            raise ConfigError(
                f"--slo: '{part.strip()}' is no limit; write for example ttft=300ms,itl=50ms,e2e=10s"
            )
        name, number, unit = found.groups()
        if name not in _LIMITS:
            raise ConfigError(f"--slo: '{name}' can't be limited; there are {', '.join(_LIMITS)}")
        if unit not in _UNITS_MS:
            raise ConfigError(
                f"--slo: '{part.strip()}' needs a unit: us, ms, s or m, for example {name}={number}ms"
            )
        if f"{name}_ms" in limits:
            raise ConfigError(f"--slo: '{name}' is limited twice in '{text}'")
        if float(number) <= 0:
            raise ConfigError(f"--slo: '{part.strip()}' is a limit that nothing keeps; it must be above 0")
        limits[f"{name}_ms"] = float(number) * _UNITS_MS[unit]
    return Slo(**limits)


def counts(record: RequestRecord, slo: Slo) -> bool:
    """Whether the request is among those of which a share is good."""
    return record.verdict is not Verdict.ABANDONED or bool(missed(record, slo))


def missed(record: RequestRecord, slo: Slo) -> tuple[str, ...]:
    """Which limits the request broke; `failed` alone for one that was not answered whole. Empty: it is good.

    One that was abandoned: the limits that it had broken by then.
    """
    if record.failed:
        return ("failed",)
    broken = []
    end_s = answer_end_s(record)
    if end_s is None and record.verdict is Verdict.ABANDONED:
        return ()
    # Without tokens, as embeddings are, the first that one has of an answer is all of it.
    first_s = record.first_token_s if record.first_token_s is not None else end_s
    if _longer(record.due_s, first_s, slo.ttft_ms):
        broken.append("ttft")
    gap_ms = mean_gap_ms(record)
    if slo.itl_ms is not None and gap_ms is not None and gap_ms > slo.itl_ms:
        broken.append("itl")
    if _longer(record.due_s, end_s, slo.e2e_ms):
        broken.append("e2e")
    return tuple(broken)


def _longer(from_s: float, to_s: float | None, limit_ms: float | None) -> bool:
    return limit_ms is not None and (to_s is None or (to_s - from_s) * 1000 > limit_ms)


def goodput(requests: Iterable[RequestRecord], slo: Slo, seconds: float | None) -> Goodput:
    """Of `requests`, which were due within `seconds`; None: no rate is given."""
    good = of = 0
    why: dict[str, int] = {}
    for record in requests:
        if not counts(record, slo):
            continue
        of += 1
        broken = missed(record, slo)
        good += not broken
        for name in broken:
            why[name] = why.get(name, 0) + 1
    return Goodput(
        good=good,
        of=of,
        share=good / of if of else None,
        between=wilson(good, of),
        per_s=good / seconds if seconds else None,
        missed=why,
    )
