"""Two places that were asked the same in turns: how they differ, and how sure that is, for the report's page."""

from __future__ import annotations

from inferry.bench.compare import compare
from inferry.bench.compare_text import text
from inferry.bench.report import Report
from inferry.bench.report_json import result
from inferry.core.errors import ConfigError


def compared(report: Report) -> str:
    """Lines of which the last is the conclusion; empty if the runs are not of two names, or nothing was asked.

    The first name is what is looked at, a gateway for instance; the second is what it is held against.
    """
    names = list(dict.fromkeys(run.name for run in report.runs))
    if len(names) != 2 or not all(names):
        return ""
    runs = result(report).runs
    looked_at, against = ([run for run in runs if run.name == name] for name in names)
    try:
        found = compare(against, looked_at, anyway=True)
    except ConfigError:
        return ""
    return text(found, names[1], names[0])
