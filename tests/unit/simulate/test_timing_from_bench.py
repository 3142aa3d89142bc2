"""An engine's timing from a bench: a law that made the figures is found again in them."""

from __future__ import annotations

import pytest

from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_from_bench import BenchPoint, timing_from_bench

TRUE = EngineTiming(
    step_s=0.02, step_s_per_sequence=0.0004, prefill_tokens_per_s=8000.0, request_s=0.01, start_s=40.0
)


def _point(running: float, tokens: float = 500.0, output: float = 200.0) -> BenchPoint:
    prompt_s = tokens / TRUE.prefill_tokens_per_s
    step_s = TRUE.step_s + TRUE.step_s_per_sequence * running
    itl_s = step_s + running / output * prompt_s
    return BenchPoint(running, tokens, output, 1e3 * (TRUE.request_s + itl_s + prompt_s), 1e3 * itl_s)


def test_the_law_is_found_again() -> None:
    """From loads of two lengths of prompts: steps within 2 %, prompts within 5 %."""
    points = [_point(1), _point(1, 2000), _point(8), _point(32), _point(64)]
    known = timing_from_bench(points, "test", EngineTiming())
    for running in (1, 16, 50):
        assert known.timing.step_s_of(running, running * 600) == pytest.approx(
            TRUE.step_s_of(running, running * 600), rel=0.02
        )
    assert known.timing.prefill_tokens_per_s == pytest.approx(TRUE.prefill_tokens_per_s, rel=0.05)
    assert known.timing.request_s == pytest.approx(TRUE.request_s, rel=0.1)


def test_with_prompts_of_one_length_times_between_tokens_decide() -> None:
    """Steps that don't grow with the load leave no time for prompts of others: what the first token takes is the
    request's own."""
    points = [BenchPoint(running, 200, 40, 100, 20) for running in (1, 4, 12)]
    timing = timing_from_bench(points, "test", EngineTiming()).timing
    assert timing.step_s_of(12, 12 * 220) == pytest.approx(0.02, rel=0.03)
    assert timing.request_s == pytest.approx(0.08, rel=0.3)


def test_one_load_says_that_it_guesses() -> None:
    """Steps are then as long as they were there, whatever runs; what a bench can't tell is named."""
    known = timing_from_bench([_point(4)], "test", TRUE)
    assert known.timing.step_s_per_sequence == 0
    assert any("a guess" in each for each in known.doubts)
    assert any("start (40 s)" in each for each in known.doubts)


def test_no_run_is_an_error() -> None:
    """Instead of a default that nobody measured."""
    with pytest.raises(ValueError, match="no run"):
        timing_from_bench([], "test", TRUE)
