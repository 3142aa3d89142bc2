"""An engine's own metrics that scaling rules name."""

from __future__ import annotations

import pytest

from inferry.engines.own_metrics import own_metrics

PAGE = """\
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0"} 3.0
vllm:num_preemptions_total{engine="1"} 4.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.7
vllm:request_queue_time_seconds_sum{engine="0"} 1.5
vllm:request_queue_time_seconds_sum{engine="1"} 2.0
llamacpp:n_busy_slots_per_decode 1.25
sglang:num_retracted_reqs 9
broken:gauge NaN
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vllm:num_preemptions_total", 7.0),
        ("vllm:num_preemptions", 7.0),
        ("vllm:kv_cache_usage_perc", 0.6),
        ("vllm:request_queue_time_seconds_sum", 3.5),
        ("llamacpp:n_busy_slots_per_decode", 1.25),
        ("sglang:num_retracted_reqs_total", 9.0),
    ],
)
def test_counters_add_up_and_gauges_don_t(name: str, value: float) -> None:
    """Over label sets: counters and a histogram's sums are added; of gauges, the mean: two caches that are half full
    are no full one. With or without `_total`."""
    assert own_metrics(PAGE, {name}) == {name: pytest.approx(value)}


def test_what_a_page_does_not_have_is_missing() -> None:
    """Neither a name that is nowhere, nor one whose value is no number, nor the beginning of another name is 0."""
    assert own_metrics(PAGE, {"vllm:num_preemp", "broken:gauge", "gpu_use", "vllm:kv_cache_usage"}) == {}
