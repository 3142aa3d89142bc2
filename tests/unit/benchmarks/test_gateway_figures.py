"""The arithmetic behind the gateway benchmark's figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from benchmarks.gateway.figures import Figures, Sample, per_request_us, per_token_us, ratios, slope, summarize
from benchmarks.gateway.processes import Memory
from benchmarks.gateway.report import Report, Row
from benchmarks.gateway.soak import Soaked

SAMPLE = Sample(
    request_us=30.0,
    control_request_us=0.0,
    half_load_request_us=45.0,
    token_us=10.0,
    control_token_us=0.0,
    short_stream_us=300.0,
    requests_per_s=20000.0,
    busy=0.98,
    token_busy=0.3,
    added_p50_us=80.0,
    added_p99_us=500.0,
    direct_p99_us=300.0,
)


def figures(request_us: float, token_us: float) -> Figures:
    return summarize([replace(SAMPLE, request_us=request_us, token_us=token_us)])


def test_cost_per_request() -> None:
    """0.3 s of CPU for 10,000 requests are 30 us each."""
    assert per_request_us(0.3, 10_000) == pytest.approx(30.0)


def test_cost_per_token_is_a_slope() -> None:
    """What a stream costs without its tokens is in short and long streams alike, and cancels."""
    token_s, stream_s = 13e-6, 400e-6
    short, long = (100 * (stream_s + tokens * token_s) for tokens in (20, 320))
    assert per_token_us(short, long, streams=100, short_tokens=20, long_tokens=320) == pytest.approx(13.0)


def test_best_and_middle_of_the_rounds() -> None:
    """Costs are compared by their minimum, rates by their maximum; an odd round moves neither far."""
    found = summarize(
        [
            replace(SAMPLE, request_us=cost, requests_per_s=rate)
            for cost, rate in ((31.0, 19000.0), (30.0, 21000.0), (90.0, 7000.0))
        ]
    )
    assert (found.best.request_us, found.median.request_us) == (30.0, 31.0)
    assert (found.best.requests_per_s, found.median.requests_per_s) == (21000.0, 19000.0)
    assert found.rounds == 3


def test_ratios_take_the_better_router() -> None:
    """Per figure, Inferry stands against whichever of the two routers does better there."""
    found = ratios(
        {
            "inferry": figures(35.0, 16.0),
            "sglang-router": figures(50.0, 40.0),
            "vllm-router": figures(70.0, 20.0),
            "litellm": figures(3500.0, 700.0),
            "nginx": figures(14.0, 8.0),
        }
    )
    assert [(each.what, each.against, each.most, each.met) for each in found] == [
        ("request_us", "sglang-router", 0.7, True),
        ("token_us", "vllm-router", 0.8, True),
        ("request_us", "litellm", 1 / 50, True),
        ("token_us", "litellm", 1 / 50, False),
        ("request_us", "nginx", None, None),
        ("token_us", "nginx", 1.6, False),
    ]
    assert [each.value for each in found] == pytest.approx([0.7, 0.8, 0.01, 16 / 700, 2.5, 2.0])


def test_who_is_left_out_is_in_no_ratio() -> None:
    """Without a contender there is no ratio to it, and without Inferry none at all."""
    assert [
        each.against for each in ratios({"inferry": figures(30.0, 10.0), "nginx": figures(15.0, 8.0)})
    ] == [
        "nginx",
        "nginx",
    ]
    assert ratios({"nginx": figures(15.0, 8.0), "litellm": figures(9000.0, 900.0)}) == []


def test_slope_is_least_squares() -> None:
    """Noise around a line does not hide how steep it is."""
    assert slope([0, 1, 2, 3], [5, 8, 11, 14]) == pytest.approx(3.0)
    assert slope([0, 1, 2, 3], [6, 7, 12, 13]) == pytest.approx(2.6)


def test_soak_tells_growth_from_filling() -> None:
    """Memory that fills once and stays is flat; memory that grows with the requests is not, nor is a failure."""

    def soaked(after: list[int], failed: int = 0, stays: int = 0) -> Soaked:
        used = [40_000_000 + 2000 * stays * number for number in range(3)]
        resident = [110_000_000, 90_000_000, 130_000_000]  # as many as happened to be at once
        return Soaked(50_000_000, after, resident, resident, used, 100_000, 2000, failed)

    filled = [52_000_000, 53_000_000, *[53_000_000] * 6]
    growing = [50_000_000 + number * 1_000_000 for number in range(8)]
    assert soaked(filled).flat
    assert not soaked(growing).flat
    assert soaked(growing).bytes_per_request == pytest.approx(80.0)
    assert not soaked(filled, failed=1).flat
    assert soaked(filled, stays=200).flat
    assert soaked(filled, stays=300).bytes_per_stream == pytest.approx(300.0)
    assert not soaked(filled, stays=300).flat


def test_report_shows_who_was_left_out_and_why() -> None:
    """Text and Markdown have the figures, the verdicts, and the reason of those that could not take part."""
    memory = Memory(50_000_000, 60_000_000)
    rows = [
        Row(name, "1.0", figures(cost, 10.0), memory, memory, Memory(0, 0), Memory(0, 0), 1, [])
        for name, cost in (("inferry", 30.0), ("vllm-router", 40.0))
    ]
    report = Report({"CPU": "a test"}, rows, {"nginx": "nginx is not installed here"})
    for text in (report.as_text(), report.as_markdown()):
        assert "nginx is not installed here" in text
        assert "30.0 (30.0)" in text
        assert "NOT MET" in text  # 30/40 per request, and 10/10 per token
    assert '"met": false' in report.as_json()
