"""Metrics pages as real engines printed them, read by their adapters and by Prometheus' own parser."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from inferry.engines.adapter import EngineMetrics

from .engine_cases import CASES

PAGES = sorted((Path(__file__).parents[1] / "fixtures" / "metrics").glob("*.txt"))
"""ENGINE-VERSION.txt."""

# Our name for the engine's, of pages that have it. Gauges and counters of one replica are added up.
NAMES = {
    "llamacpp": {
        "running": "llamacpp:requests_processing",
        "waiting": "llamacpp:requests_deferred",
        "tokens_generated": "llamacpp:tokens_predicted_total",
    },
    "sglang": {
        "running": "sglang:num_running_reqs",
        "waiting": "sglang:num_queue_reqs",
        "tokens_generated": "sglang:generation_tokens_total",
        "tokens_prompt": "sglang:prompt_tokens_total",
        "kv_cache_use": "sglang:token_usage",
        "prefix_query_tokens": "sglang:prompt_tokens_total",
        "prefix_hit_tokens": "sglang:cached_tokens_total",
        "preemptions": "sglang:num_retracted_requests_total",
        "ttft_count": "sglang:time_to_first_token_seconds_count",
        "ttft_sum_s": "sglang:time_to_first_token_seconds_sum",
    },
    "vllm": {
        "running": "vllm:num_requests_running",
        "waiting": "vllm:num_requests_waiting",
        "tokens_generated": "vllm:generation_tokens_total",
        "tokens_prompt": "vllm:prompt_tokens_total",
        "kv_cache_use": "vllm:kv_cache_usage_perc",
        "prefix_query_tokens": "vllm:prefix_cache_queries_total",
        "prefix_hit_tokens": "vllm:prefix_cache_hits_total",
        "preemptions": "vllm:num_preemptions_total",
        "ttft_count": "vllm:time_to_first_token_seconds_count",
        "ttft_sum_s": "vllm:time_to_first_token_seconds_sum",
    },
}


def read(page: Path) -> EngineMetrics:
    engine = page.stem.partition("-")[0]
    adapter = next(case for case in CASES if case.engine == engine).adapter()
    return adapter.read_metrics(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recorded_page_is_read_as_prometheus_reads_it(page: Path) -> None:
    """Each figure that the engine has comes out under our name, with the very value."""
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(page.read_text(encoding="utf-8")):
        for sample in family.samples:
            sums[sample.name] += sample.value
    metrics = read(page)
    for ours, theirs in NAMES[page.stem.partition("-")[0]].items():
        assert theirs in sums, f"the page lost {theirs}"
        assert getattr(metrics, ours) == pytest.approx(sums[theirs]), ours


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_cut_anywhere_gives_no_wrong_figure(page: Path) -> None:
    """A figure of a page that broke off is missing, or that of the lines that came; it is never made up."""
    text = page.read_text(encoding="utf-8")
    engine = page.stem.partition("-")[0]
    adapter = next(case for case in CASES if case.engine == engine).adapter()
    whole = adapter.read_metrics(text)
    lines = text.splitlines(keepends=True)
    for end in range(0, len(lines), 7):
        cut = adapter.read_metrics("".join(lines[:end]))
        for name in EngineMetrics.__slots__:
            found, full = getattr(cut, name), getattr(whole, name)
            if name == "own":  # by the engine's own names, of which none is asked for here
                assert found == full == {}
                continue
            assert found is None or (full is not None and found <= full), name


def test_the_pages_are_those_of_the_engines_that_run_here() -> None:
    """Both engines with a metrics page that need no GPU."""
    assert {page.stem.partition("-")[0] for page in PAGES} >= {"llamacpp", "vllm"}
