"""`inferry bench` as far as it goes without a server, its exit codes, and its comparison of files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from inferry.bench import report_json
from inferry.bench.capacity import Found, Goal
from inferry.bench.records import Verdict
from inferry.bench.report import Capacity, Report, ReportedRun
from inferry.bench.validity import Validity
from inferry.cli.bench import exit_code
from tests.unit.bench.made_up_runs import made_up_run

from .conftest import Run

NOBODY = "http://127.0.0.1:9/v1"


@pytest.fixture
def listing() -> Iterator[list[Any]]:
    """A stand-in that lists models, and does nothing else: its URL, and what it answers."""
    answer: list[Any] = ["", 200, {"data": [{"id": "only"}]}]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer[1])
            self.end_headers()
            self.wfile.write(json.dumps(answer[2]).encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        answer[0] = f"http://127.0.0.1:{running.server_address[1]}/v1"
        yield answer
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INFERRY_KEY", "INFERRY_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_the_only_model_is_found(run: Run, listing: list[Any]) -> None:
    """Where a server lists one model, nobody has to name it."""
    shown = run("bench", listing[0], "--rate", "3", "--show-plan")
    assert shown.code == 0
    assert json.loads(shown.out)["target"]["model"] == "only"


def test_several_models_are_listed(run: Run, listing: list[Any]) -> None:
    """Where there are several, they are named, and so is the option."""
    listing[2] = {"data": [{"id": "one"}, {"id": "two"}]}
    shown = run("bench", listing[0])
    assert shown.code == 2
    assert "one, two" in shown.err
    assert "--model" in shown.err


def test_a_key_that_is_missing(run: Run, listing: list[Any]) -> None:
    """A server that wants a key is answered with where to put it."""
    listing[1] = 401
    shown = run("bench", listing[0])
    assert shown.code == 2
    assert "--key-variable" in shown.err


def test_the_key_is_in_no_plan(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan names the variable; the key itself is nowhere."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hush")
    shown = run("bench", NOBODY, "--model", "m", "--show-plan")
    assert json.loads(shown.out)["target"]["key_variable"] == "OPENAI_API_KEY"
    assert "hush" not in shown.out + shown.err


def test_a_price_is_in_the_plan(run: Run) -> None:
    """With its currency, if one was named; without a price there is none."""
    shown = run("bench", NOBODY, "-m", "m", "--price-per-hour", "2.5", "--currency", "EUR", "--show-plan")
    assert json.loads(shown.out)["price"] == {"per_hour": 2.5, "currency": "EUR"}
    assert json.loads(run("bench", NOBODY, "-m", "m", "--show-plan").out)["price"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["127.0.0.1:8000"], "begin it with http://"),
        (["http://127.0.0.1:8000"], "Did you mean http://127.0.0.1:8000/v1?"),
        (["chat"], "Nothing is running here"),
        ([NOBODY], "Nobody listens"),
        ([NOBODY, "-m", "m", "--key-variable", "NO_SUCH"], "no such variable"),
        ([NOBODY, "-m", "m", "--json", "nowhere/r.json"], "there is no folder nowhere"),
        ([NOBODY, "-m", "m", "--rate", "1", "-q"], "Nobody takes connections"),
        ([NOBODY, "other.json"], "one TARGET at a time"),
        ([NOBODY, "-m", "m", "--currency", "EUR"], "give --price-per-hour with it"),
        ([NOBODY, "-m", "m", "--price-per-hour", "0"], "write a number above 0"),
        ([NOBODY, "-m", "m", "--price-per-hour", "1", "--currency", "a\tb"], "write a word"),
        ([NOBODY, "-m", "m", "--price-per-hour", "1", "--compare", "http://h/v1"], "is of one place"),
        (["compare", "one.json"], "takes two results"),
        (["compare", "one.json", "two.json"], "can't be read"),
    ],
)
def test_bad_input_is_2(run: Run, words: list[str], says: str) -> None:
    """Whatever can't be done is told in words, with exit code 2."""
    shown = run("bench", *words)
    assert shown.code == 2
    assert says in shown.err


# --- exit codes ---------------------------------------------------------------------------------------


def judged(run: ReportedRun, verdict: Any) -> ReportedRun:
    return replace(run, validity=Validity(verdict=verdict))


SLOW = judged(made_up_run(40.0, 10.0), "valid")
QUICK = judged(made_up_run(5.0, 10.0), "valid")


def test_exit_codes_of_runs() -> None:
    """0 fine or suspect, 1 less goodput than asked for, 3 invalid, and that before the goal."""
    assert exit_code(Report(runs=(QUICK,)), 0.9) == 0
    assert exit_code(Report(runs=(judged(QUICK, "suspect"),)), None) == 0
    assert exit_code(Report(runs=(SLOW,)), None) == 0
    assert exit_code(Report(runs=(SLOW,)), 0.9) == 1
    assert exit_code(Report(runs=(judged(SLOW, "invalid"),)), 0.9) == 3


def test_exit_codes_of_searches() -> None:
    """What fails above the answer is no failure; nothing found is one."""
    found = Found(rate=6.0, low=5.5, high=7.0, sure=True, why="")
    runs = (QUICK, judged(SLOW, "invalid"))
    assert exit_code(Report(runs=runs, capacity=Capacity(goal=Goal(), found=found)), 0.9) == 0
    nothing = replace(found, rate=0.0, low=0.0)
    assert exit_code(Report(runs=(QUICK,), capacity=Capacity(goal=Goal(), found=nothing)), None) == 1


def test_a_spoiled_trial_is_not_what_a_search_is_about() -> None:
    """Of trials at the load that was found the good one counts, made after or before the spoiled or bad one; of
    several good ones the last; and where all are spoiled, CI hears it."""
    found = Found(rate=5.2, low=5.0, high=6.0, sure=True, why="")
    invalid = judged(QUICK, "invalid")
    bad = judged(made_up_run(5.0, 10.0, failures=(Verdict.TRUNCATED,)), "valid")
    lighter, again = judged(made_up_run(4.0, 10.0), "valid"), replace(QUICK)

    def searched(*runs: ReportedRun) -> Report:
        return Report(runs=(lighter, *runs, SLOW), capacity=Capacity(goal=Goal(), found=found))

    for runs in ((invalid, QUICK), (QUICK, invalid), (bad, QUICK), (QUICK, bad)):
        assert searched(*runs).main is QUICK
        assert exit_code(searched(*runs), None) == 0
    assert searched(QUICK, again).main is again
    assert searched(bad).main is lighter
    spoiled = Report(runs=(invalid, SLOW), capacity=Capacity(goal=Goal(), found=found))
    assert exit_code(spoiled, None) == 3


def test_a_stopped_run_is_130() -> None:
    """Ctrl-C is told to shells as they expect it, whatever was measured until then."""
    stopped = replace(QUICK, record=replace(QUICK.record, stopped_early=True))
    assert exit_code(Report(runs=(stopped,)), None) == 130


# --- compare ------------------------------------------------------------------------------------------


def result(path: Path, *runs: ReportedRun) -> str:
    report_json.write(path, Report(runs=runs))
    return str(path)


def test_a_slower_result_is_1(run: Run, tmp_path: Path) -> None:
    """B that is worse than A is named so, by which figures, with exit code 1; A beside itself is not."""
    plan = QUICK.plan
    quick = made_up_run(5.0, 60.0, gap_s=0.01, plan=plan)
    slow = made_up_run(5.0, 60.0, gap_s=0.02, plan=plan)
    before, after = result(tmp_path / "before.json", quick), result(tmp_path / "after.json", slow)
    shown = run("bench", "compare", before, after, "--json", "c.json")
    assert shown.code == 1
    assert "after is WORSE than before by" in shown.out
    kept = json.loads((tmp_path / "c.json").read_text())
    assert {each["word"] for each in kept["differences"] if each["figure"] == "e2e_ms p50"} == {"worse"}
    assert run("bench", "compare", before, before).code == 0


def test_an_invalid_result_is_3(run: Run, tmp_path: Path) -> None:
    """Where the client was the limit on either side, CI does not hear that all is well."""
    good = result(tmp_path / "good.json", QUICK)
    bad = result(tmp_path / "bad.json", judged(QUICK, "invalid"))
    for pair in ((good, bad), (bad, good)):
        shown = run("bench", "compare", *pair)
        assert shown.code == 3
        assert "no evidence that" not in shown.out
        assert "bad is INVALID" in shown.out


def test_two_places_are_not_one_result(run: Run, tmp_path: Path) -> None:
    """A file of --compare holds two sides already: it is refused as one side of another comparison."""
    both = result(tmp_path / "both.json", *(replace(QUICK, name=name) for name in ("gateway", "direct")))
    shown = run("bench", "compare", result(tmp_path / "one.json", QUICK), both)
    assert shown.code == 2
    assert "gateway, direct" in shown.err
    assert "without --compare" in shown.err
    turns = result(tmp_path / "turns.json", *(replace(QUICK, name="gateway") for _ in range(2)))
    assert run("bench", "compare", turns, turns).code == 0


def test_different_workloads_are_refused(run: Run, tmp_path: Path) -> None:
    """Results of different loads are compared only with --anyway, and then it is said."""
    one, other = result(tmp_path / "one.json", QUICK), result(tmp_path / "other.json", SLOW)
    shown = run("bench", "compare", one, other)
    assert shown.code == 2
    assert "The workloads differ" in shown.err
    assert "Not the same workload" in run("bench", "compare", one, other, "--anyway").out


def test_a_sweep_is_not_one_load(run: Run, tmp_path: Path) -> None:
    """A file with runs at several loads can't be compared as if they were one."""
    sweep = result(tmp_path / "sweep.json", QUICK, SLOW)
    shown = run("bench", "compare", sweep, sweep)
    assert shown.code == 2
    assert "several loads" in shown.err
