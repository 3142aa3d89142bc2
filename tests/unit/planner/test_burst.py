"""The schedule of a burst, against cases that can be counted by hand."""

from __future__ import annotations

import pytest

from inferry.planner.burst import burst


def test_prompts_that_fill_steps_of_their_own() -> None:
    """Four prompts of a whole step each, and streams that last: the k-th first token comes after k steps with k - 1 others."""
    found = burst(4, 100, 1000, 50, 1000, prefill_first=True)
    assert found.wait.prompts == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert found.wait.passes == pytest.approx(2.5)
    assert found.wait.steps == 0
    assert (found.whole.prompts, found.whole.steps) == (4, 49)
    # Six prompts are read while others already run, 0 + 1 + 2 + 3 of them, for 4 x 49 tokens.
    assert found.token.prompts == pytest.approx(6 / (4 * 49))


def test_prompts_and_running_streams_share_a_step() -> None:
    """Two prompts fill a step, and no more streams are left: both wait for that step alone."""
    found = burst(2, 100, 500, 11, 1000, prefill_first=False)
    assert (found.wait.steps, found.wait.prompts, found.wait.decodes) == (1, 2, 0)
    assert found.whole.steps == pytest.approx(1 + 10)
    assert found.token.decodes == pytest.approx(2)


@pytest.mark.parametrize("prefill_first", [True, False])
def test_few_slots_make_half_of_all_the_mean_wait(prefill_first: bool) -> None:
    """Where requests by far outnumber slots, a mean request waits for half of everything."""
    found = burst(4000, 40, 500, 100, 8192, prefill_first=prefill_first)
    assert found.wait.prompts == pytest.approx(found.whole.prompts / 2, rel=0.02)
    assert found.wait.steps == pytest.approx(found.whole.steps / 2, rel=0.02)
    assert found.token.decodes <= 40


@pytest.mark.parametrize("requests", [1, 7, 1000, 50_000])
def test_every_prompt_is_read_once_and_every_token_made(requests: int) -> None:
    """Of all kinds of size: prompts are conserved, and streams of 20 tokens take 19 steps after their first."""
    found = burst(requests, 256, 300, 20, 2048, prefill_first=False)
    assert found.whole.prompts == pytest.approx(requests)
    made = found.whole.steps * found.whole.decodes
    assert made == pytest.approx(requests * 19, rel=0.02)


def test_answers_of_one_token_end() -> None:
    """Nothing is left to decode, and the schedule still comes to its end."""
    assert burst(10, 4, 100, 1, 1000, prefill_first=True).whole.prompts == pytest.approx(10)
