"""Dashboards: their shape, by rules of our own and by Grafana's types; no Grafana runs here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferry.gateway.collector import metrics_page
from inferry.gateway.scaling_families import scaling_families
from inferry.gateway.snapshot import Snapshot
from inferry.gateway.standing_families import (
    backup_families,
    certificate_families,
    ledger_families,
    load_families,
    tenant_families,
)
from inferry.render.grafana.panels import DATASOURCE, WIDTH
from inferry.render.grafana.rendering import render_grafana
from inferry.render.prometheus.rules import rule_groups
from inferry.render.shipment import Shipment
from tests.ship.golden import check_golden
from tests.ship.shipments import everything_shipment, small_shipment
from tests.ship.tools import run, tool

OUTSIDE = frozenset(
    {
        "ALERTS",
        "up",
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        "DCGM_FI_DEV_XID_ERRORS",
    }
)
"""Prometheus' own metrics, and those of NVIDIA's exporter: no gateway has them."""
PLAIN = """
type Plain<T> = unknown extends T ? T
  : T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[]
  : { [K in keyof T]: Plain<T[K]> };
"""
"""JSON has no enums: their values stand for them."""
_WORDS = re.compile(
    r"(?<!:)\b(?:by|on|without|and|or|unless|ignoring|group_left|sum|min|max|count|rate|increase|deriv|vector|time|absent"
    r"|clamp_min|clamp_max|topk|histogram_quantile|max_over_time)\b(?!:)"
)


def dashboards(shipment: Shipment) -> dict[str, dict[str, Any]]:
    """By path."""
    return {
        path: json.loads(text) for path, text in render_grafana(shipment).items() if path.endswith(".json")
    }


def queries(shipment: Shipment) -> list[str]:
    """All that dashboards ask."""
    return [
        target["expr"]
        for each in dashboards(shipment).values()
        for panel in each["panels"]
        for target in panel["targets"]
    ]


def names_in(expr: str) -> set[str]:
    """The metrics that an expression reads."""
    expr = re.sub(r'"[^"]*"', "", expr)
    expr = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", expr)
    expr = re.sub(r"\b(by|on|without|ignoring) \([^)]*\)", "", expr)
    return set(re.findall(r"[A-Za-z_:][A-Za-z0-9_:]*", _WORDS.sub("", expr)))


def exported() -> set[str]:
    """Every metric that a gateway's page can have, by its families: they are told without a single sample."""
    more = (
        *scaling_families([], {}),
        *tenant_families({}, {}),
        *backup_families(0.0, 3600.0),
        *certificate_families(0.0),
        *ledger_families(0.0),
        *load_families([]),
    )
    return names_on(metrics_page(Snapshot(), [], more).decode())


def names_on(page: str) -> set[str]:
    """Of the families that a page for Prometheus has."""
    names: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M):
        names |= {f"{name}{end}" for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))}
    return names


def test_what_is_rendered_was_reviewed() -> None:
    """With GPUs, and without."""
    check_golden("grafana", render_grafana(everything_shipment()))
    assert "dashboards/gpus.json" not in render_grafana(small_shipment())


def test_every_metric_is_exported() -> None:
    """Rules and dashboards read what a gateway has, what rules record, or what is listed as outside."""
    shipment = everything_shipment()
    rules = [rule for group in rule_groups(shipment) for rule in group["rules"]]
    known = exported() | {rule["record"] for rule in rules if "record" in rule} | OUTSIDE
    wrong = {
        expr: missing
        for expr in (*queries(shipment), *(rule["expr"] for rule in rules))
        if (missing := names_in(expr) - known)
    }
    assert wrong == {}
    assert names_in('sum by (a) (rate(inferry_x_total{b="c"}[5m])) / on (a) d:e:f') == {
        "inferry_x_total",
        "d:e:f",
    }


def test_variables_ask_for_labels_that_exist() -> None:
    """`$deployment` is used where it is defined, and its metric is exported."""
    for path, each in dashboards(everything_shipment()).items():
        defined = {variable["name"]: variable["query"]["query"] for variable in each["templating"]["list"]}
        used = set(re.findall(r"\$(\w+)", json.dumps(each["panels"])))
        assert used == set(defined), path
        for name, definition in defined.items():
            found = re.fullmatch(rf"label_values\((\w+), {name}\)", definition)
            assert found is not None
            assert found[1] in exported()


def problems(dashboard: dict[str, Any]) -> Iterator[str]:
    """What Grafana would trip over, or show in the wrong place."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        title, place = panel["title"], panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        if taken & cells:
            yield f"{title}: over another panel"
        taken |= cells
        if place["x"] + place["w"] > WIDTH:
            yield f"{title}: outside of the grid"
        if panel["datasource"] != DATASOURCE or not panel["targets"]:
            yield f"{title}: asks nobody"
        if len({target["refId"] for target in panel["targets"]}) != len(panel["targets"]):
            yield f"{title}: two queries of one name"
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        yield "two panels of one id"


def test_panels_have_their_places() -> None:
    """None over another one, none outside; uids are all different, and such as Grafana takes."""
    found = dashboards(everything_shipment())
    for path, each in found.items():
        assert list(problems(each)) == [], path
        assert re.fullmatch(r"[a-z0-9-]{1,40}", each["uid"])
    assert len({each["uid"] for each in found.values()}) == len(found)
    broken = found["dashboards/overview.json"]
    broken["panels"][1]["gridPos"] = broken["panels"][0]["gridPos"]
    assert list(problems(broken)) == [f"{broken['panels'][1]['title']}: over another panel"]


def test_grafana_finds_its_source_and_dashboards() -> None:
    """The source's uid is the one that panels name."""
    files = render_grafana(small_shipment())
    [source] = yaml.safe_load(files["provisioning/datasources/inferry.yaml"])["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == DATASOURCE
    [provider] = yaml.safe_load(files["provisioning/dashboards/inferry.yaml"])["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


@pytest.mark.slow
def test_grafanas_own_types_take_them(tmp_path: Path) -> None:
    """Each dashboard as a literal of the type `Dashboard`; one with a wrong panel is refused."""
    node = tool("node")
    # Beside the other tools: TOOLS/bin/trivy, TOOLS/node_modules.
    modules = Path(tool("trivy")).parents[1] / "node_modules"
    if not (modules / "@grafana" / "schema").is_dir():
        pytest.skip(
            "@grafana/schema is not here: npm install --prefix .venv/tools @grafana/schema typescript"
        )
    (tmp_path / "node_modules").symlink_to(modules)
    compiler = str(modules / "typescript" / "bin" / "tsc")

    def check(name: str, dashboard: dict[str, Any]) -> str:
        path = tmp_path / f"{name}.ts"
        path.write_text(
            f'import type {{ Dashboard }} from "@grafana/schema";\n{PLAIN}'
            f"export const it: Plain<Dashboard> = {json.dumps(dashboard)};\n",
            encoding="utf-8",
        )
        options = (
            "--noEmit --strict --skipLibCheck --module nodenext --moduleResolution nodenext --target es2022"
        )
        return run(node, compiler, *options.split(), str(path)).stdout

    for path, each in dashboards(everything_shipment()).items():
        assert check(Path(path).stem, each) == "", path
    broken = dashboards(everything_shipment())["dashboards/overview.json"]
    broken["panels"][0]["gridPos"]["w"] = "wide"
    assert "gridPos" in check("broken", broken) or "not assignable" in check("broken", broken)
