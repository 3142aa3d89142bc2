"""Results of other tools, as they really wrote them (shortened), in our form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferry.bench.compare import compare, unlike
from inferry.bench.imports import read
from inferry.bench.report import Report, ReportedRun
from inferry.bench.report_json import Result, write
from inferry.bench.summary import summarise
from inferry.bench.validity import judge
from inferry.core.errors import ConfigError
from tests.unit.bench.known_runs import plan, request, run

FOUND = Path(__file__).parent / "imported"
"""Written by vLLM 0.32 (`bench serve`, with `--save-detailed` and without) and guidellm 0.8.1, asking the simulated
engine for 6 tokens each. Texts, paths and what is not read are taken out."""


def changed(tmp_path: Path, name: str, **more: Any) -> Result:
    """The file with some keys otherwise; None takes one out."""
    found = json.loads((FOUND / name).read_text()) | more
    path = tmp_path / name
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
    return read(path)


def test_our_figures_of_vllms_requests_are_vllms() -> None:
    """From its requests we compute what it computed, to the last microsecond: its ITL is our gap between chunks."""
    theirs = json.loads((FOUND / "vllm-detailed.json").read_text())
    ours = read(FOUND / "vllm-detailed.json")
    assert ours.requests.ok == theirs["completed"] == 12
    for name, called in (("ttft_ms", "ttft"), ("tpot_ms", "tpot"), ("icl_ms", "itl"), ("e2e_ms", "e2el")):
        of = getattr(ours, name)
        for figure, word in (("mean", "mean"), ("p50", "median"), ("p90", "p90"), ("p99", "p99")):
            assert getattr(of, figure) == pytest.approx(theirs[f"{word}_{called}_ms"], abs=1e-3)
    assert ours.output_tokens_per_s == pytest.approx(theirs["output_throughput"], rel=0.05)
    assert ours.requests_per_s.asked == 20


def test_vllms_queue_is_made_visible(tmp_path: Path) -> None:
    """What waited 40 ms in vLLM's own queue is 40 ms later from when it was due, where vLLM's clock had not begun."""
    ours = changed(tmp_path, "vllm-detailed.json", queue_times=[0.04] * 12)
    assert ours.slip_ms.p50 == pytest.approx(40)
    assert ours.ttft_ms.p50 is not None
    assert ours.ttft_from_due_ms.p50 == pytest.approx(ours.ttft_ms.p50 + 40)


def test_it_is_said_what_is_lacking(tmp_path: Path) -> None:
    """Without its queue times nobody knows when requests were due; a result is suspect, for its client is unknown."""
    old = changed(tmp_path, "vllm-detailed.json", queue_times=None, latencies=None)
    assert any(each.startswith("slip_ms") for each in old.lacking)
    assert (old.slip_ms.max, old.verdict, old.plan) == (0, "suspect", None)
    assert "does not say whether its client kept up" in old.reasons[0]


def test_vllms_failures_are_failures(tmp_path: Path) -> None:
    """A request with an error failed, with the last line of its traceback as the reason."""
    errors = ["", "Traceback ...\nClientPayloadError: 400", *[""] * 10]
    ours = changed(tmp_path, "vllm-detailed.json", errors=errors)
    assert (ours.requests.ok, ours.requests.failed) == (11, 1)
    assert ours.requests.by_verdict == {"ok": 11, "failed": 1}
    assert ours.per_request is not None
    assert sorted(ours.per_request.verdict) == ["failed", *["ok"] * 11]
    assert ours.with_failures.ttft_ms.infinite == 1


def test_vllms_figures_alone() -> None:
    """Saved without requests: its figures as they are, null for what it has not, and no comparison."""
    theirs = json.loads((FOUND / "vllm-figures.json").read_text())
    ours = read(FOUND / "vllm-figures.json")
    assert ours.ttft_ms.p50 == theirs["median_ttft_ms"]
    assert (ours.ttft_ms.p90, ours.itl_ms.p50, ours.goodput.share, ours.window) == (None, None, None, None)
    assert ours.icl_ms.p99 == theirs["p99_itl_ms"]
    assert ours.requests_per_s.asked is None
    assert any("--save-detailed" in each for each in ours.lacking)
    with pytest.raises(ConfigError, match="A has no figures of single requests"):
        compare([ours], [ours])


def test_lines_that_vllm_added(tmp_path: Path) -> None:
    """With --append-result a file has a result per line: all are there as runs, the last above."""
    lines = [(FOUND / name).read_text() for name in ("vllm-figures.json", "vllm-detailed.json")]
    (tmp_path / "more.json").write_text("".join(lines))
    found = read(tmp_path / "more.json")
    assert [each.per_request is None for each in found.runs] == [True, False]
    assert found.per_request is not None


def test_guidellms_requests() -> None:
    """Its means are ours; gaps between tokens, which it does not keep, are not made up."""
    theirs = json.loads((FOUND / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
    ours = read(FOUND / "guidellm.json")
    assert (ours.requests.ok, ours.made_by, ours.name) == (8, "guidellm 0.8.1", "constant")
    for name, called, scale in (
        ("ttft_ms", "time_to_first_token_ms", 1),
        ("tpot_ms", "inter_token_latency_ms", 1),
        ("e2e_ms", "request_latency", 1000),
    ):
        assert getattr(ours, name).mean == pytest.approx(
            theirs[called]["successful"]["mean"] * scale, abs=1e-3
        )
    assert (ours.itl_ms.count, ours.stall_ms.count) == (0, 0)
    assert any(each.startswith("itl_ms") for each in ours.lacking)
    assert ours.requests_per_s.asked == 5
    assert ours.requests_per_s.due == pytest.approx(5, rel=0.01)
    assert ours.tokens.output == 48
    assert ours.output_tokens_per_s == pytest.approx(32.78, abs=0.01)


def test_guidellms_failures_and_several_benchmarks(tmp_path: Path) -> None:
    """Errored requests fail, unfinished ones are abandoned; of a sweep all benchmarks are there."""
    one = json.loads((FOUND / "guidellm.json").read_text())["benchmarks"][0]
    other = json.loads(json.dumps(one))
    requests = other["requests"]
    requests["errored"], requests["incomplete"] = requests["successful"][:2], requests["successful"][2:3]
    requests["successful"] = requests["successful"][3:]
    found = changed(tmp_path, "guidellm.json", benchmarks=[one, other])
    assert [each.requests.ok for each in found.runs] == [8, 5]
    assert (found.requests.ok, found.requests.failed, found.requests.abandoned) == (5, 2, 1)


def test_ours_is_read_as_ours(tmp_path: Path) -> None:
    """A result of our own comes back by the same door, and can be compared with another tool's."""
    of, record = plan(), run([request(n, due_s=n / 20, chunks=(1,) * 6) for n in range(60)])
    summary = summarise(of, record)
    reported = ReportedRun(plan=of, record=record, summary=summary, validity=judge(of, record, summary))
    write(tmp_path / "a.json", Report(runs=(reported,)))
    ours = read(tmp_path / "a.json")
    assert ours.requests.ok == 60
    theirs = read(FOUND / "vllm-detailed.json")
    assert any(each.startswith("input tokens per request") for each in unlike([ours, theirs]))
    assert compare([ours], [theirs], anyway=True).differences


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not JSON"),
        ("[1, 2]", "no result of"),
        ("{}\n{}", "no result of"),
        ("{}\n{", "not JSON: Extra data"),
        ("\n\n", "no result of"),
        ('{"a": 1}', "no result of 'inferry bench --json', 'vllm bench serve --save-result' or guidellm"),
        ('{"format": "inferry.bench", "version": 99}', "version 99 of the format; this Inferry reads 1"),
        ('{"format": "inferry.bench", "version": 1}', "missing required field"),
        ('{"completed": 1, "request_throughput": 1, "model_id": "m"}', "of a version that is not known: KeyError"),
        ('{"metadata": {}, "benchmarks": [{}]}', "looks like a result of guidellm"),
        ('{"metadata": {}, "benchmarks": []}', "it has no benchmarks"),
    ],
)  # fmt: skip
def test_what_is_no_result_says_so(tmp_path: Path, content: str, says: str) -> None:
    """The file, and what is wrong with it; never a traceback."""
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as raised:
        read(path)
    assert str(path) in raised.value.message
    assert says in raised.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its path, and that it can't be read."""
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        read(tmp_path / "none.json")
