"""From the words of `inferry bench` to a plan."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from inferry.bench.plan import (
    Closed,
    Constant,
    FromTrace,
    Gamma,
    Lengths,
    Poisson,
    Ramp,
    RunPlan,
    Sessions,
    Slo,
    Steps,
    Synthetic,
    TraceTimes,
)
from inferry.cli.bench_plan import Words, plan_of
from inferry.cli.bench_target import Asked
from inferry.cli.bench_wish import SEARCH_SLO, check_files, wish_of, words_of
from inferry.cli.bench_words import duration_s, lengths, steps
from inferry.core.errors import ConfigError

WORDS = Words(
    api="chat", rate=None, arrivals=None, poisson=False, burstiness=None, concurrency=None, ramp=None, steps=None,
    trace_speed=None, duration="30s", requests=None, warmup="0s", abandon_share=0.0, abandon_after="2s", seed=0,
    input_tokens=None, output_tokens=None, prefix_tokens=0, prefix_groups=1, same_prompts=False, workload=None,
    trace=None, trace_tokens_scale=1.0, sessions=None, turn_tokens=None, think="1s", stop_early=False, no_stream=False,
    timeout="600s", extra=None,
)  # fmt: skip
GIVEN = {
    **dataclasses.asdict(WORDS), "slo": None, "goodput_min": None, "price_per_hour": None, "currency": None,
    "find_capacity": False, "sweep_rates": None,
    "sweep_concurrency": None, "compare": None, "engine": None, "quiet": False, "processes": None, "calibrate": True,
    "kill_replica_after": None, "stop_replica_after": None,
}  # fmt: skip
ASKED = Asked("http://127.0.0.1:9/v1", "m", None)


def plan(**changed: Any) -> RunPlan:
    return plan_of(dataclasses.replace(WORDS, **changed), "http://127.0.0.1:9/v1", "m", None, Slo(), 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("30s", 30.0), ("2m", 120.0), ("500ms", 0.5), ("1h", 3600.0), ("1.5", 1.5)],
)
def test_times(text: str, seconds: float) -> None:
    """Times are seconds, or have a unit."""
    assert duration_s("--duration", text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-3", "3 days", "1e9"])
def test_no_times(text: str) -> None:
    """What is no time is answered with the option's name and with how to write one."""
    with pytest.raises(ConfigError, match=r"--duration .*30s"):
        duration_s("--duration", text)


def test_lengths() -> None:
    """A number is exact, a range is even, and distributions have mean and deviation."""
    assert lengths("-i", "256") == Lengths(mean=256)
    assert lengths("-i", "100-300") == Lengths(mean=200, spread="uniform", deviation=100, least=100, most=300)
    assert lengths("-i", "normal:256:50") == Lengths(mean=256, spread="normal", deviation=50)
    assert lengths("-i", "lognormal:256:200") == Lengths(mean=256, spread="lognormal", deviation=200)


@pytest.mark.parametrize("text", ["0", "-5", "300-100", "normal:5", "gamma:1:2", "1.5", "", "normal:x:y"])
def test_no_lengths(text: str) -> None:
    """What is no length is refused, with the option's name."""
    with pytest.raises(ConfigError, match="--input-tokens"):
        lengths("--input-tokens", text)


@pytest.mark.parametrize(
    ("changed", "arrivals"),
    [
        ({"rate": 5.0}, Poisson(5.0)),
        ({"rate": 5.0, "arrivals": "constant"}, Constant(5.0)),
        ({"rate": 5.0, "arrivals": "gamma", "burstiness": 0.5}, Gamma(5.0, 0.5)),
        ({"concurrency": 8}, Closed(8)),
        ({"ramp": "1:20"}, Ramp(1.0, 20.0)),
        ({"steps": "5:30s,10:1m"}, Steps(((5.0, 30.0), (10.0, 60.0)))),
        ({}, Closed(1)),
    ],
)
def test_arrivals(changed: dict[str, Any], arrivals: object) -> None:
    """Each way of saying when requests come, and one user where nothing is said."""
    assert plan(**changed).arrivals == arrivals


def test_steps_last_as_long_as_they_say() -> None:
    """The run's duration is the sum of the steps' times."""
    assert plan(steps="5:30s,10:1m").duration_s == 90
    assert steps("2:1s") == ((2.0, 1.0),)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rate": 5.0, "concurrency": 2}, "--rate and --concurrency"),
        ({"rate": 5.0, "arrivals": "weibull"}, "must be one of poisson, constant, gamma"),
        ({"rate": 5.0, "burstiness": 2.0}, "--arrivals gamma"),
        ({"rate": -1.0}, "--rate -1.0"),
        ({"arrivals": "constant"}, "give --rate"),
        ({"poisson": True, "rate": 1.0, "arrivals": "constant"}, "contradict"),
        ({"trace_speed": 2.0}, "--trace FILE"),
        ({"ramp": "5"}, "--ramp 5"),
        ({"steps": "5"}, "--steps 5"),
        ({"api": "grpc"}, "--api grpc"),
        ({"warmup": "30s"}, "shorter than 30 s"),
        ({"workload": Path("nowhere.json")}, "no such file"),
        ({"workload": Path("a"), "sessions": "3"}, "--workload and --sessions"),
        ({"prefix_tokens": 256}, "less than 256"),
        ({"extra": "[1]"}, "--extra: must be a JSON object"),
        ({"duration": "0"}, "more than 0"),
    ],
)
def test_what_does_not_go_together(changed: dict[str, Any], words: str) -> None:
    """Contradictions and nonsense are answered with the option's name and the way out."""
    with pytest.raises(ConfigError) as raised:
        plan(**changed)
    assert words in raised.value.message


def test_workloads(tmp_path: Path) -> None:
    """Made-up prompts, sessions and traces."""
    made_up = plan(input_tokens="100", prefix_tokens=40, prefix_groups=3, same_prompts=True).workload
    assert made_up == Synthetic(
        input_tokens=Lengths(mean=100),
        output_tokens=Lengths(mean=128),
        prefix_tokens=40,
        prefix_groups=3,
        unique=False,
    )
    sessions = plan(sessions="3", think="2s").workload
    assert isinstance(sessions, Sessions)
    assert (sessions.turns, sessions.think_s, sessions.turn_tokens) == (
        Lengths(mean=3),
        2.0,
        Lengths(mean=64),
    )
    trace = tmp_path / "trace.jsonl"
    trace.write_text("")
    traced = plan(trace=trace)
    assert traced.workload == FromTrace(path=str(trace))
    assert traced.arrivals == TraceTimes(1.0)
    assert plan(trace=trace, rate=2.0).arrivals == Poisson(2.0)


def wish(**changed: Any) -> Any:
    given = {**GIVEN, **changed}
    return wish_of(given, words_of(given), ASKED)


def test_a_search_needs_no_rate() -> None:
    """It begins at one request per second, asks for 99 % and has limits of its own, unless others are given."""
    wanted = wish(find_capacity=True)
    assert (wanted.plan.arrivals, wanted.goal_share, wanted.plan.slo) == (Poisson(1.0), 0.99, SEARCH_SLO)
    given = wish(find_capacity=True, rate=40.0, goodput_min=0.9, slo="e2e=1s")
    assert (given.plan.arrivals, given.goal_share, given.plan.slo) == (Poisson(40.0), 0.9, Slo(e2e_ms=1000))
    assert wish(find_capacity=True, concurrency=4).plan.arrivals == Closed(4)


def test_sweeps() -> None:
    """Loads come in the order of size; a single number is how many, after a search."""
    assert wish(sweep_rates="8,2,4").loads == (2.0, 4.0, 8.0)
    assert wish(sweep_concurrency="4,1").loads == (1, 4)
    spaced = wish(sweep_rates="6")
    assert (spaced.loads, spaced.loads_count, spaced.goal_share) == ((), 6, 0.99)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"sweep_rates": "1,2", "sweep_concurrency": "1,2"}, "both change the load"),
        ({"find_capacity": True, "ramp": "1:2"}, "give --rate or --concurrency"),
        ({"find_capacity": True, "sweep_rates": "1,2"}, "finds its rates by itself"),
        ({"sweep_rates": "1,2", "concurrency": 3}, "--concurrency and --sweep-rates"),
        ({"sweep_concurrency": "1,x"}, "whole numbers"),
        ({"find_capacity": True, "goodput_min": 1.0}, "below 1"),
        ({"find_capacity": True, "no_stream": True}, "--slo is missing"),
        ({"find_capacity": True, "compare": "direct"}, "of one load"),
        ({"compare": "direct", "rate": 1.0}, "for a deployment"),
        ({"compare": "http://127.0.0.1:9/v1", "rate": 1.0}, "is TARGET itself"),
        ({"slo": "ttft=fast"}, "--slo"),
    ],
)
def test_wishes_that_do_not_go_together(changed: dict[str, Any], words: str) -> None:
    """Searches, sweeps and comparisons that contradict each other are refused before anything is sent."""
    with pytest.raises(ConfigError) as raised:
        wish(**changed)
    assert words in raised.value.message


def test_two_results_in_one_file_are_refused(tmp_path: Path) -> None:
    """One would replace the other; and a place where nothing can be written is told before the run."""
    check_files({"json": tmp_path / "a.json", "csv": tmp_path / "a.csv", "html": None})
    with pytest.raises(ConfigError, match="--json and --html both name"):
        check_files({"json": tmp_path / "a", "csv": None, "html": tmp_path / "." / "a"})
    with pytest.raises(ConfigError, match="there is no folder"):
        check_files({"json": tmp_path / "no" / "a", "csv": None, "html": None})
