"""What `inferry render prometheus` writes, read by promtool and amtool: the real ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferry.render.kubernetes.naming import gateway_name
from inferry.render.prometheus.alerts import gateway_job
from inferry.render.prometheus.rendering import render_prometheus
from inferry.render.prometheus.rules import rule_groups
from inferry.render.shipment import Files
from tests.ship.alert_cases import CASES, unit_tests, wordings
from tests.ship.golden import check_golden
from tests.ship.shipments import everything_shipment, shipment_of, small_shipment, vllm_shipment
from tests.ship.tools import passes, run, tool

ROOT = Path(__file__).parents[2]


def put(files: Files, folder: Path) -> Path:
    """The files below a folder, with the key that operators make."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "metrics-key").write_text("not-a-key", encoding="utf-8")
    return folder


def alerts() -> dict[str, dict[str, Any]]:
    """By name."""
    return {
        rule["alert"]: rule
        for group in rule_groups(everything_shipment())
        for rule in group["rules"]
        if "alert" in rule
    }


def test_what_is_rendered_was_reviewed() -> None:
    """Small and everything: with and without keys, TLS, engines of their own, GPUs."""
    check_golden("prometheus", render_prometheus(everything_shipment()))
    check_golden("prometheus-small", render_prometheus(small_shipment(upstreams=("127.0.0.1:8000",))))


@pytest.mark.parametrize("shipment", [everything_shipment(), vllm_shipment(), small_shipment()])
def test_promtool_and_amtool_take_it(tmp_path: Path, shipment: Any) -> None:
    """Configuration, rules, targets, and the Alertmanager's."""
    folder = put(render_prometheus(shipment), tmp_path)
    told = passes(tool("promtool"), "check", "config", str(folder / "prometheus.yml"))
    assert "rules/alerts.yml" in told
    assert "rules found" in told
    passes(tool("amtool"), "check-config", str(folder / "alertmanager.yml"))


def test_a_typo_is_found(tmp_path: Path) -> None:
    """The tools would not take anything."""
    files = dict(render_prometheus(small_shipment()))
    files["rules/alerts.yml"] = files["rules/alerts.yml"].replace("deriv(", "derive(")
    folder = put(files, tmp_path)
    done = run(tool("promtool"), "check", "config", str(folder / "prometheus.yml"))
    assert done.returncode != 0
    assert "derive" in done.stdout + done.stderr


def test_each_alert_has_a_unit_test() -> None:
    """An alert without one fails here; so does a test without an alert."""
    assert sorted(case.alert for case in CASES) == sorted(alerts())
    assert [case.alert for case in CASES if not case.quiet] == []


PROMISED = """
deployments:
  chat: {engine: simulated, scaling: {min: 2, max: 8, slo: {ttft_ms: 800, itl_ms: 60}}}
"""
RULES = ["rules/recording.yml", "rules/alerts.yml"]


def put_tests(folder: Path, files: list[dict[str, Any]]) -> list[str]:
    """For promtool, beside the rules of a file with one deployment: more of them only take it longer."""
    put(render_prometheus(shipment_of(PROMISED)), folder)
    paths = []
    for number, tests in enumerate(files):
        path = folder / f"tests-{number}.yml"
        path.write_text(yaml.safe_dump(tests), encoding="utf-8")
        paths.append(str(path))
    return paths


@pytest.mark.slow
def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    """`promtool test rules`, with a fault and with figures that look like one."""
    severities = {name: rule["labels"]["severity"] for name, rule in alerts().items()}
    paths = put_tests(tmp_path, unit_tests(RULES, severities))
    passes(tool("promtool"), "test", "rules", *paths)


@pytest.mark.slow
def test_alerts_say_what_is_wrong(tmp_path: Path) -> None:
    """Their words are filled in: names and figures, no template left, no error of one."""
    done = run(tool("promtool"), "test", "rules", *put_tests(tmp_path, wordings(RULES)))
    said = done.stdout + done.stderr
    for case in CASES:
        found = re.search(rf"alertname: {case.alert}, time: .*?got:\s*\[(.*?)\]\s*$", said, re.S | re.M)
        assert found is not None, f"{case.alert}\n{said[:3000]}"
        assert "summary" in found[1], found[0]
    assert not re.search(r"error expanding|<no value>|\{\{|NaN", said), said
    assert "streams begin later than promised" in said
    assert "44% of its streams" in said


def test_each_alert_leads_to_a_page() -> None:
    """With a severity, a summary and a description."""
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert {"summary", "description", "runbook_url"} == set(rule["annotations"]), name
        page = ROOT / rule["annotations"]["runbook_url"]
        assert page.is_file(), name
        assert f"`{name}`" in page.read_text(encoding="utf-8"), name


def test_each_page_is_for_an_alert() -> None:
    """And the index of runbooks names every alert."""
    folder = ROOT / "docs" / "runbooks"
    pages = {str(page.relative_to(ROOT)) for page in folder.glob("*.md")} - {"docs/runbooks/README.md"}
    assert pages == {rule["annotations"]["runbook_url"] for rule in alerts().values()}
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert [name for name in alerts() if f"`{name}`" not in index] == []


def test_the_file_says_what_is_promised() -> None:
    """`scaling.slo` first, then a rule's limit, then a default, each said in a comment."""
    text = """
deployments:
  a: {engine: simulated, scaling: {min: 1, max: 2, slo: {ttft_ms: 500, attainment: 0.9}}}
  b: {engine: simulated, scaling: {min: 1, max: 2, rules: [{metric: itl_ms, percentile: 99, target: 100}]}}
"""
    rendered = render_prometheus(shipment_of(text))["rules/recording.yml"]
    groups = yaml.safe_load(rendered)["groups"]
    budgets = {
        (rule["record"], rule["labels"]["deployment"]): rule["expr"]
        for group in groups
        for rule in group["rules"]
        if rule["record"].endswith(":budget")
    }
    assert budgets["deployment:inferry_ttft_slow:budget", "a"] == "vector(0.1)"
    assert budgets["deployment:inferry_ttft_slow:budget", "b"] == "vector(0.05)"
    assert budgets["deployment:inferry_itl_slow:budget", "b"] == "vector(0.01)"
    words = " ".join(rendered.replace("#", " ").split())
    assert "0.9 of the streams within 0.5 s, since scaling.slo says so" in words
    assert "0.99 of the streams within 0.1 s, since a rule of scaling keeps it" in words
    assert "within 5 s, since the file says nothing of it" in words


def test_the_job_is_the_service_of_kubernetes() -> None:
    """There, the operator's Prometheus calls a job after its Service: the same alerts work."""
    shipment = small_shipment(name="llm")
    assert gateway_job(shipment) == gateway_name(shipment) == "llm-gateway"
    gateways_down = [rule["expr"] for group in rule_groups(shipment) for rule in group["rules"]]
    assert 'up{job="llm-gateway"} == 0' in gateways_down


def test_no_secret_is_rendered() -> None:
    """Prometheus' key is a file that the operator makes."""
    text = "\n".join(render_prometheus(everything_shipment()).values())
    assert "credentials_file: secrets/metrics-key" in text
    for secret in ("not-a-password", "hf_not_a_token", "sk-not-a-key"):
        assert secret not in text
