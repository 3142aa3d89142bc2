"""The page on the JSON schema names what the file has."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from inferry.bench.capacity import Found, Goal
from inferry.bench.cost import Cost
from inferry.bench.energy import Energy
from inferry.bench.goodput import Goodput
from inferry.bench.plan import Price, RunPlan
from inferry.bench.records import Calibration, ClientAudit, EngineSample, GpuSample, Verdict
from inferry.bench.report_csv import COLUMNS
from inferry.bench.report_json import PerRequest, Result
from inferry.bench.steady import Steadiness, Trend
from inferry.bench.summary import Cache, Distribution, RequestRates, Requests, Tokens, WithFailures
from inferry.bench.validity import BUSY_DOUBT, BUSY_WRONG, RATE_DOUBT, RATE_WRONG

PAGE = (Path(__file__).parents[3] / "docs" / "bench-schema.md").read_text()
PARTS: tuple[type[Struct], ...] = (
    Result, Distribution, Requests, RequestRates, Tokens, Cache, WithFailures, Goodput, Steadiness, Trend,
    PerRequest, ClientAudit, EngineSample, Calibration, RunPlan, Goal, Found, Price, Cost,
    Energy, GpuSample,
)  # fmt: skip


def test_every_field_is_explained() -> None:
    """No field of the file, or of what is in it, is left out of the page."""
    named = set(re.findall(r"`([a-z0-9_]+)`", PAGE))
    fields = {name for part in PARTS for name in part.__struct_fields__}
    assert sorted(fields - named) == []


def test_the_limits_are_those_of_the_code() -> None:
    """Shares of CPU and rate that the page gives are the constants that decide."""
    for words in (f"above {BUSY_DOUBT:.0%} of a core", f"above {BUSY_WRONG:.0%}"):
        assert words.replace("%", " %") in PAGE
    for short in (RATE_DOUBT, RATE_WRONG):
        assert f"less than {1 - short:.0%}".replace("%", " %") in PAGE


def test_columns_say_what_they_are() -> None:
    """No column of the CSV comes twice, and a verdict's word fits in one."""
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert all(re.fullmatch(r"[a-z_]+", str(verdict)) for verdict in Verdict)
