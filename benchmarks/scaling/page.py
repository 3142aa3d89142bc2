"""Tables and plots of docs/autoscaling-figures.md, from what was found: each between its two marks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.scaling.plot import Point, plot

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "autoscaling-figures.md"
TRACES = ("m-large", "m-small")


def write_page(results: Path) -> None:
    """Raises FileNotFoundError where something was not run, ValueError where the page has no place for it."""
    text = PAGE.read_text()
    for trace in TRACES:
        found = json.loads((results / f"{trace}.json").read_text())
        text = _put(text, trace, _scores(found))
        (DOCS / "images" / f"autoscaling-{trace}.svg").write_text(_plotted(trace, found))
    text = _put(text, "hours", _hours(json.loads((results / "hours.json").read_text())))
    text = _put(text, "ramp", _ramp(json.loads((results / "ramp.json").read_text())))
    text = _put(text, "azure", _azure(json.loads((results / "azure.json").read_text())))
    text = _put(text, "steady", _steady(json.loads((results / "steady.json").read_text())))
    text = _put(text, "tuned", _tuned(json.loads((results / "tuned.json").read_text())))
    PAGE.write_text(text)


def _put(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, mark, rest = text.partition(begin)
    _, other, after = rest.partition(end)
    if not mark or not other:
        raise ValueError(f"{PAGE.name} has no {begin} with {end}")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _ordered(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Ours first, then by cost."""
    policies = found["policies"].items()
    return sorted(policies, key=lambda each: (each[1].get("family") != "ours", each[1]["all"]["gpu_hours"]))


def _words(entry: dict[str, Any]) -> str:
    if entry.get("family") == "ours":
        return "its defaults"
    if "family" not in entry:
        return ", ".join(f"{name} {value}" for name, value in entry["settings"].items())
    parts = ["as documented"] if entry["documented"] else []
    return ", ".join(parts + (["tuned"] if entry["tuned"] else []))


def _scores(found: dict[str, Any]) -> str:
    oracle = found["policies"]["oracle"]
    rows = []
    for name, entry in _ordered(found):
        whole, later = entry["all"], entry["from_day_5"]
        rows.append(
            [
                name,
                _words(entry),
                _percent(whole["attainment"]),
                f"{whole['gpu_hours']:,.0f}",
                f"{whole['gpu_hours'] / oracle['all']['gpu_hours']:.3f}",
                _percent(later["attainment"]),
                f"{later['gpu_hours'] / oracle['from_day_5']['gpu_hours']:.3f}",
                f"{whole['turns_per_hour']:.1f}",
            ]
        )
    head = (
        "Policy",
        "Settings",
        "Within SLO",
        "GPU-hours",
        "over the oracle",
        "days 5 to 14",
        "over the oracle",
        "turns/h",
    )
    return _table(head, rows)


def _plotted(trace: str, found: dict[str, Any]) -> str:
    base = found["policies"]["oracle"]["all"]["gpu_hours"]
    points = [
        Point(
            entry.get("family", name),
            name,
            entry["all"]["gpu_hours"] / base,
            entry["all"]["attainment"],
            entry.get("documented", True),
        )
        for name, entry in _ordered(found)
    ]
    curve = [(each["gpu_hours"] / base, each["attainment"]) for each in found["curve"].values()]
    curve.append((points[0].cost, points[0].attainment))
    title = f"ServeGen {trace}, 14 days, simulated: requests within TTFT 2 s and 100 ms a token"
    return plot(title, points, curve)


def _hours(found: dict[str, Any]) -> str:
    rows = [
        [
            f"{run['trace']}, hours {run['from_hour']} to {run['to_hour']}, {run['share_of_requests']:.0%}",
            run["policy"],
            f"{run['requests']:,}",
            _percent(run["flow"]["attainment"]),
            _percent(run["by_request"]["attainment"]),
            f"{run['flow']['mean_replicas']:.2f}",
            f"{run['by_request']['mean_replicas']:.2f}",
        ]
        for run in found["runs"]
    ]
    head = ("Part", "Policy", "Requests", "flow", "one by one", "replicas, flow", "one by one")
    return _table(head, rows)


def _ramp(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            _percent(each["attainment"]),
            _percent(each["least_attainment"]),
            f"{each['mean_replicas']:.2f}",
        ]
        for name, each in found.items()
    ]
    rows.append(["*llm-d's own, measured on H100s (published)*", "*95.8 %*", "", "*5.93*"])
    return _table(("Policy, simulated", "Within SLO", "least of 5 seeds", "mean replicas"), rows)


def _azure(found: dict[str, Any]) -> str:
    rows = [
        [
            trace,
            name,
            _percent(each["attainment"]),
            f"{each['mean_replicas']:.2f}",
            f"{each['of_static']:.0%}",
            f"{each['over_oracle']:.3f}",
        ]
        for trace, cases in found.items()
        for name, each in cases.items()
    ]
    return _table(
        ("Hour", "Policy", "Within SLO", "mean replicas", "of static peak's", "over the oracle"), rows
    )


def _steady(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            _percent(each["attainment"]),
            f"{each['over_need']:.2f}",
            f"{each['turns_per_hour']:.2f}",
        ]
        for name, each in found.items()
    ]
    return _table(("Steady load", "Within SLO", "replicas over load / what one carries", "turns/h"), rows)


def _tuned(found: dict[str, Any]) -> str:
    best = set(found["best"].values())
    rows = [
        [
            f"**{name}**" if name in best else name,
            _percent(each["attainment"]),
            f"{each['gpu_hours']:,.0f}",
            f"{each['turns_per_hour']:.1f}",
        ]
        for name, each in found["tried"].items()
    ]
    return _table(("Tried", "Within SLO", "GPU-hours", "turns/h"), rows)
