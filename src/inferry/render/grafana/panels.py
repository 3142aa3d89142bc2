"""Panels and their places: from what is asked to the objects that Grafana keeps dashboards in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Panel = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "inferry-prometheus"}
"""As provisioning/datasources/inferry.yaml makes it."""
WIDTH = 24
"""Of Grafana's grid."""
SCHEMA_VERSION = 39
"""Of Grafana 11; newer ones bring it up to date by themselves."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and how its series are called: `{{deployment}}`."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """One panel, before it has its place. `unit` is one of Grafana's: s, percentunit, reqps, short, currency:..."""

    title: str
    queries: Sequence[Query]
    unit: str = "short"
    about: str = ""
    kind: Literal["timeseries", "stat", "table", "gauge"] = "timeseries"
    width: int = 8
    height: int = 8
    bad_above: float | None = None
    """Red from there on; None: nothing is red."""
    most: float | None = None


def dashboard(
    uid: str, title: str, about: str, views: Sequence[View], variables: Sequence[Panel] = ()
) -> Panel:
    """The whole object."""
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["inferry"],
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": list(variables)},
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "Inferry",
                "tags": ["inferry"],
                "asDropdown": False,
                "icon": "external link",
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "panels": _placed(views),
    }


def variable(name: str, label: str, metric: str) -> Panel:
    """A choice among the values of the label `name`, or all of them."""
    query = f"label_values({metric}, {name})"
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": "A"},
        "includeAll": True,
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
    }


def _placed(views: Sequence[View]) -> list[Panel]:
    """From left to right, and in a new row where one does not fit any more."""
    panels: list[Panel] = []
    left = top = row_height = 0
    for number, view in enumerate(views, start=1):
        if left + view.width > WIDTH:
            left, top, row_height = 0, top + row_height, 0
        place = {"h": view.height, "w": view.width, "x": left, "y": top}
        panels.append(_panel(number, view, place))
        left, row_height = left + view.width, max(row_height, view.height)
    return panels


def _panel(number: int, view: View, place: dict[str, int]) -> Panel:
    defaults: Panel = {"unit": view.unit, "min": 0, "thresholds": _thresholds(view.bad_above), "mappings": []}
    if view.most is not None:
        defaults["max"] = view.most
    if view.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 8,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
        }
    return {
        "id": number,
        "type": view.kind,
        "title": view.title,
        "description": view.about,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(view),
        "targets": [
            _target(letter, each, view.kind) for letter, each in zip("ABCDEFGH", view.queries, strict=False)
        ],
    }


def _target(letter: str, query: Query, kind: str) -> Panel:
    is_now = kind != "timeseries"
    target: Panel = {
        "refId": letter,
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "instant": is_now,
        "range": not is_now,
    }
    return target | {"format": "table"} if kind == "table" else target


def _thresholds(bad_above: float | None) -> Panel:
    steps: list[Panel] = [{"color": "green", "value": None}]
    if bad_above is not None:
        steps.append({"color": "red", "value": bad_above})
    return {"mode": "absolute", "steps": steps}


def _options(view: View) -> Panel:
    match view.kind:
        case "timeseries":
            return {
                "legend": {
                    "displayMode": "list",
                    "placement": "bottom",
                    "showLegend": True,
                    "calcs": [],
                },
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "table":
            return {"showHeader": True, "cellHeight": "sm"}
    reduced: Panel = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "auto",
    }
    if view.kind == "gauge":
        return reduced | {"showThresholdLabels": False, "showThresholdMarkers": True}
    return reduced | {"colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto"}
