"""One row per request: for spreadsheets and tools that want rows. The warm-up's rows are marked."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from inferry.bench.goodput import missed
from inferry.bench.plan import Slo
from inferry.bench.records import RequestRecord
from inferry.bench.report import Report
from inferry.bench.request_figures import Figures, figures
from inferry.core.errors import ConfigError

OF_RECORD = (
    "number",
    "session",
    "verdict",
    "reason",
    "warmup",
    "resent",
    "status",
    "finish_reason",
    "due_s",
    "sent_s",
    "first_byte_s",
    "first_token_s",
    "last_token_s",
    "ended_s",
    "input_tokens",
    "input_asked",
    "output_tokens",
    "output_asked",
    "reasoning_tokens",
    "cached_tokens",
    "shared_tokens",
    "token_source",
)
OF_FIGURES = Figures.__struct_fields__
COLUMNS = ("run", *OF_RECORD, *OF_FIGURES, "missed")
"""`run` counts from 0; times in seconds are of the run's clock; `missed` names broken limits of the SLO."""
_BEGINS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def text(report: Report) -> str:
    """All requests of all runs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, run in enumerate(report.runs):
        writer.writerows(_rows(number, run.record.requests, run.plan.slo))
    return out.getvalue()


def write(path: Path, report: Report) -> None:
    """ConfigError when the file can't be written."""
    try:
        path.write_text(text(report), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from error


def _rows(run: int, requests: tuple[RequestRecord, ...], slo: Slo) -> Iterator[list[object]]:
    for request in requests:
        of_it = figures(request)
        yield [
            run,
            *(_cell(getattr(request, name)) for name in OF_RECORD),
            *(_cell(getattr(of_it, name)) for name in OF_FIGURES),
            " ".join(missed(request, slo)),
        ]


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return round(value, 6)
    words = str(value)
    # What a server says could be a formula to a spreadsheet.
    return "'" + words if isinstance(value, str) and words.startswith(_BEGINS_FORMULA) else words
