"""A result as JSON: its schema, which docs/bench-schema.md explains, written and read.

JSON has no infinity. A figure that is `null` beside an `infinite` above 0 is infinite: failures are infinitely late.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from inferry import __version__
from inferry.bench.goodput import counts, missed
from inferry.bench.plan import RunPlan, Slo
from inferry.bench.records import Calibration, ClientAudit, EngineSample, RequestRecord
from inferry.bench.report import Capacity, Report, ReportedRun
from inferry.bench.request_figures import Figures, figures
from inferry.bench.resilience import Resilience
from inferry.bench.summary import Summary
from inferry.bench.validity import Judgement
from inferry.core.clock import utc_text
from inferry.core.errors import ConfigError
from inferry.core.shown_url import shown_url

FORMAT = "inferry.bench"
VERSION = 1
"""Counts up when a field goes or changes its meaning; new fields may come without."""

Times = list[float | None]


class PerRequest(Struct, frozen=True, kw_only=True):
    """Columns of equal length, one place per request, after the warm-up and in the order in which they were due."""

    number: list[int] = []
    verdict: list[str] = []
    good: list[bool | None] = []
    """Within the SLO; None: it does not count."""
    due_s: list[float] = []
    ttft_ms: Times = []
    ttft_from_due_ms: Times = []
    e2e_ms: Times = []
    e2e_from_due_ms: Times = []
    tpot_ms: Times = []
    itl_ms: Times = []
    """The mean of its own gaps."""
    stall_ms: Times = []
    input_tokens: list[int | None] = []
    output_tokens: list[int] = []


class RunResult(Summary, frozen=True, kw_only=True):
    """A run: all figures of its summary, and what they are worth."""

    verdict: Judgement
    reasons: tuple[str, ...] = ()
    name: str = ""
    started_at: str = ""
    """UTC; of the wall clock, for people."""
    duration_s: float | None = None
    plan: RunPlan | None = None
    """None: another tool's result."""
    audits: tuple[ClientAudit, ...] = ()
    samples: tuple[EngineSample, ...] = ()
    resilience: Resilience | None = None
    notes: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    """Figures that another tool's result does not have, and why."""
    per_request: PerRequest | None = None


class Result(RunResult, frozen=True, kw_only=True):
    """A file: the run that it is about, and all runs if there were several."""

    format: str = FORMAT
    version: int = VERSION
    made_by: str = f"inferry {__version__}"
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    calibration: Calibration | None = None
    capacity: Capacity | None = None
    runs: tuple[RunResult, ...] = ()
    """In their order, the one above among them. Empty: there was one."""


def result(report: Report) -> Result:
    main = _fields(report.main)
    return Result(
        **main,
        environment=report.environment,
        calibration=report.calibration,
        capacity=report.capacity,
        runs=tuple(RunResult(**_fields(run)) for run in report.runs) if len(report.runs) > 1 else (),
    )


def encode(report: Report) -> bytes:
    return msgspec.json.encode(result(report)) + b"\n"


def write(path: Path, report: Report) -> None:
    """ConfigError when the file can't be written."""
    try:
        path.write_bytes(encode(report))
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from error


def decode(data: bytes, name: str) -> Result:
    """ConfigError that begins with `name` when it is not a result that this version reads."""
    try:
        return msgspec.json.decode(data, type=Result)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{name}: not a result of 'inferry bench --json': {error}") from error


def _fields(run: ReportedRun) -> dict[str, Any]:
    summary = {name: getattr(run.summary, name) for name in run.summary.__struct_fields__}
    return summary | {
        "verdict": run.validity.verdict,
        "reasons": run.validity.reasons,
        "name": run.name,
        "started_at": utc_text(run.record.started_wall_s),
        "duration_s": run.record.duration_s,
        "plan": _without_secrets(run.plan),
        "audits": run.record.audits,
        "samples": run.record.samples,
        "resilience": run.resilience,
        "notes": run.record.notes,
        "per_request": columns(run.record.requests, run.plan.slo),
    }


def _without_secrets(plan: RunPlan) -> RunPlan:
    """A URL may have a password in it; the key itself is in no plan."""
    target = msgspec.structs.replace(plan.target, base_url=shown_url(plan.target.base_url))
    return msgspec.structs.replace(plan, target=target)


def columns(requests: tuple[RequestRecord, ...], slo: Slo) -> PerRequest:
    measured = sorted((r for r in requests if not r.warmup), key=lambda r: (r.due_s, r.number))
    of_each = [figures(request) for request in measured]

    def times(name: str) -> Times:
        return [_rounded(getattr(each, name)) for each in of_each]

    return PerRequest(
        number=[request.number for request in measured],
        verdict=[str(request.verdict) for request in measured],
        good=[not missed(request, slo) if counts(request, slo) else None for request in measured],
        due_s=[round(request.due_s, 6) for request in measured],
        input_tokens=[request.input_tokens for request in measured],
        output_tokens=[request.output_tokens for request in measured],
        **{name: times(name) for name in PerRequest.__struct_fields__ if name in Figures.__struct_fields__},
    )


def _rounded(value: float | None) -> float | None:
    """To a microsecond: the clock has no more to say, and files are smaller."""
    return None if value is None else round(value, 3)
