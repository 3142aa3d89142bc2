"""The gateway's page says which engine serves which route, and so do the engines' adapters."""

from __future__ import annotations

import re
from pathlib import Path

from inferry.core.request import ROUTES
from tests.contract.engine_cases import CASES

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"


def test_the_table_of_routes_is_the_adapters() -> None:
    """Each inner route's row names the engines that have it; those of others are passed everything."""
    routes: dict[str, set[str]] = {}
    for case in CASES:  # of several versions of an engine, the newest has the most
        if case.engine != "openai":
            routes.setdefault(case.engine, set()).update(case.adapter().routes)
    rows = re.findall(r"^\| `POST (/[\w/]+)`[^|]*\|[^|]*\| ([\w, -]+) \|$", PAGE.read_text(), re.MULTILINE)
    told = {path: names for path, names in rows if path in ROUTES}
    assert set(told) == set(ROUTES)
    for path, names in told.items():
        having = sorted(engine for engine, paths in routes.items() if path in paths)
        assert names == ("all" if len(having) == len(routes) else ", ".join(having)), path
