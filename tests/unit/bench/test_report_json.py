"""Results as files: what is in them for scripts, and that they come back as they were."""

from __future__ import annotations

import csv
import io
import json
import platform
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inferry.bench import report_csv, report_json
from inferry.bench.environment import environment
from inferry.bench.plan import Price, RunPlan, Slo
from inferry.bench.records import RequestRecord, Verdict
from inferry.bench.report import Report, ReportedRun
from inferry.bench.summary import summarise
from inferry.bench.validity import judge
from inferry.core.errors import ConfigError
from tests.unit.bench.known_runs import plan, request, run


def reported(requests: list[RequestRecord], of: RunPlan | None = None, name: str = "") -> ReportedRun:
    of = of or plan(slo=Slo(ttft_ms=150))
    record = run(requests)
    summary = summarise(of, record)
    return ReportedRun(
        plan=of, record=record, summary=summary, validity=judge(of, record, summary), name=name
    )


def mixed() -> list[RequestRecord]:
    requests = [request(n, due_s=n / 10, warmup=n < 5) for n in range(60)]
    requests += [request(60, due_s=6, ttft_s=0.2), request(61, due_s=6.1, verdict=Verdict.TRUNCATED)]
    requests += [request(62, due_s=6.2, verdict=Verdict.CONNECT, reason='=refused, by "it"\nwholly')]
    return requests


def test_the_fields_that_scripts_need_are_at_the_top() -> None:
    """Counts, latencies, tokens per second, goodput and verdict are found without knowing more of the schema."""
    known: dict[str, Any] = json.loads(report_json.encode(Report(runs=(reported(mixed()),))))
    assert known["requests"] | {"sent": 58, "ok": 56, "failed": 2} == known["requests"]
    for name in ("ttft_ms", "itl_ms", "e2e_ms"):
        assert all(known[name][figure] > 0 for figure in ("mean", "p50", "p90", "p95", "p99"))
    assert known["output_tokens_per_s"] > 0
    assert known["goodput"]["share"] == pytest.approx(55 / 58)
    assert known["verdict"] == "valid"
    assert (known["format"], known["version"]) == ("inferry.bench", 1)
    assert known["plan"]["arrivals"] == {"type": "constant", "rate": 10.0}


def test_a_price_comes_with_its_cost() -> None:
    """The plan has the price, the run what tokens cost by it; read again, it is the same. Without: null."""
    priced = msgspec.structs.replace(plan(slo=Slo(ttft_ms=150)), price=Price(per_hour=2.5, currency="EUR"))
    report = Report(runs=(reported(mixed(), priced),))
    known: dict[str, Any] = json.loads(report_json.encode(report))
    assert known["plan"]["price"] == {"per_hour": 2.5, "currency": "EUR"}
    cost = known["cost"]["per_million_output_tokens"]
    assert cost == pytest.approx(2.5e6 / 3600 / known["output_tokens_per_s"])
    assert report_json.decode(report_json.encode(report), "x") == report_json.result(report)
    assert json.loads(report_json.encode(Report(runs=(reported(mixed()),))))["cost"] is None


def test_infinity_is_null_with_a_count() -> None:
    """With failures the p99 is infinite: `null`, and `infinite` says of how many."""
    known = json.loads(report_json.encode(Report(runs=(reported(mixed()),))))
    late = known["with_failures"]["ttft_ms"]
    assert (late["p99"], late["infinite"], late["count"]) == (None, 2, 58)


def test_a_result_comes_back_as_it_was() -> None:
    """Written and read, a result of several runs is the same, chances of rounding aside."""
    report = Report(
        runs=(reported(mixed(), name="gateway"), reported(mixed()[:20], name="direct")),
        environment={"cores": "2"},
    )
    assert report_json.decode(report_json.encode(report), "x") == report_json.result(report)
    assert [each.name for each in report_json.result(report).runs] == ["gateway", "direct"]


def test_requests_are_kept_in_columns() -> None:
    """Each request after the warm-up has its place in every column; what was not measured is null."""
    kept = report_json.result(Report(runs=(reported(mixed()),))).per_request
    assert kept is not None
    assert {len(getattr(kept, name)) for name in kept.__struct_fields__} == {58}
    assert kept.number[0] == 5
    assert (kept.verdict[-1], kept.ttft_ms[-1], kept.good[-3:]) == ("connect", None, [False, False, False])
    assert kept.ttft_ms[0] == 100


def test_passwords_in_urls_stay_at_home() -> None:
    """A base URL with a password is written without it."""
    secret = "hunter" + "2"
    bare = plan()
    of = RunPlan(
        **{name: getattr(bare, name) for name in bare.__struct_fields__ if name != "target"},
        target=type(bare.target)(base_url=f"http://user:{secret}@127.0.0.1:1/v1", model="m"),
    )
    assert secret not in report_json.encode(Report(runs=(reported(mixed(), of),))).decode()


def test_what_is_no_result_is_refused() -> None:
    """Another file's name and the reason are told."""
    with pytest.raises(ConfigError, match=r"a\.json: not a result of 'inferry bench --json'"):
        report_json.decode(b'{"some": "thing"}', "a.json")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder that is not there: its path, and no traceback."""
    report = Report(runs=(reported(mixed()),))
    for write in (report_json.write, report_csv.write):
        with pytest.raises(ConfigError, match="No such file"):
            write(tmp_path / "away" / "a", report)
        write(tmp_path / "here", report)
        assert (tmp_path / "here").stat().st_size > 1000


def test_csv_has_a_row_per_request() -> None:
    """All 63 are there, the warm-up marked, with what they missed; a server's words are never a formula."""
    rows = list(csv.DictReader(io.StringIO(report_csv.text(Report(runs=(reported(mixed()),))))))
    assert len(rows) == 63
    assert [row["warmup"] for row in rows[4:6]] == ["1", "0"]
    assert float(rows[5]["ttft_ms"]) == pytest.approx(100)
    assert rows[60]["missed"] == "ttft"
    assert (rows[62]["verdict"], rows[62]["sent_s"], rows[62]["missed"]) == ("connect", "", "failed")
    assert rows[62]["reason"] == '\'=refused, by "it"\nwholly'


def test_the_machine_is_described_and_not_named(tmp_path: Path) -> None:
    """Cores, Python, kernel; not the host's name. A machine that does not tell its CPU has no such fact."""
    facts = environment()
    assert int(facts["cores"]) > 0
    assert facts["python"].startswith("CPython 3.")
    assert platform.node() not in facts.values()
    assert "cpu" not in environment(tmp_path / "none")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 2GHz\n")
    assert environment(tmp_path / "cpuinfo")["cpu"] == "Some CPU @ 2GHz"
