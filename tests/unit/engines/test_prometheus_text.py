"""Metrics pages of engines, as they come."""

from __future__ import annotations

import pytest

from inferry.engines.prometheus_text import sum_by_name, whole


def test_sums_over_label_sets() -> None:
    """A metric split over labels counts once, as a sum; comments and timestamps are passed over."""
    page = (
        "# HELP vllm:num_requests_running Running\n# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="m"} 2.0\n'
        'vllm:num_requests_running{engine="1",model_name="m"} 3.0 1700000000000\n'
        "llamacpp:tokens_predicted_total 12\n"
    )
    assert sum_by_name(page) == {"vllm:num_requests_running": 5.0, "llamacpp:tokens_predicted_total": 12.0}


def test_label_values_may_hold_anything() -> None:
    """Braces, spaces and escaped quotes inside a label value don't end the labels."""
    assert sum_by_name('a{path="/x{y} z",q="say \\"}\\" "} 7') == {"a": 7.0}


def test_buckets_are_left_out() -> None:
    """A histogram's sum and count are kept; its cumulative buckets would add up to nonsense."""
    page = 'h_bucket{le="1"} 3\nh_bucket{le="+Inf"} 4\nh_sum 2.5\nh_count 4\n'
    assert sum_by_name(page) == {"h_sum": 2.5, "h_count": 4.0}


@pytest.mark.parametrize(
    "line",
    ["", "a", "a ", "a b", "a{", 'a{x="1', 'a{x="1"}', "a NaN", "a +Inf", "<html>", "{} 1", "\x00 1 2"],
)
def test_broken_lines_cost_only_themselves(line: str) -> None:
    """Whatever stands beside it, a good line is read."""
    sums = sum_by_name(f"{line}\ngood 1\n")
    assert sums["good"] == 1.0
    assert "a" not in sums


def test_total_suffix_is_optional() -> None:
    """A counter is found with and without `_total`, and is absent when neither is there."""
    assert whole({"x_total": 3.0}, "x") == 3
    assert whole({"x": 4.9}, "x_total") == 4
    assert whole({}, "x_total") is None
