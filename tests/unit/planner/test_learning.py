"""What launches teach the planner: a wrong fact is corrected, an accident is not believed."""

from __future__ import annotations

import pytest

from inferry.planner.learning import Launch, Subject, describe, learn

SUBJECT = Subject("vllm", "h100-80g", "meta-llama/Llama-3.1-8B-Instruct", "llama", "0.15.0", "bf16")


def launch(number: int, measured: float, predicted: float = 100.0, **other: str) -> Launch:
    about = {
        "engine": "vllm",
        "engine_version": "0.15.0",
        "device": "h100-80g",
        "model": SUBJECT.model,
        "family": "llama",
        "weights": "bf16",
        **other,
    }
    return Launch(
        wall_s=1e9 + number,
        predicted={"kv_tokens": predicted, "itl_ms": predicted},
        measured={"kv_tokens": measured, "itl_ms": measured},
        **about,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("launches", "size_bound", "time_bound"), [(1, 0.05, 0.12), (3, 0.03, 0.07), (6, 0.015, 0.045)]
)
def test_a_wrong_fact_is_corrected(launches: int, size_bound: float, time_bound: float) -> None:
    """A catalog that promises 25 % too much is off by a fifth of that after one launch in sizes, and by half of it in
    times, which repeat less well; after n launches by about an n-th of these."""
    found = learn([launch(n, 80.0) for n in range(launches)], SUBJECT)
    assert abs(100.0 * found.factor("kv_tokens") / 80.0 - 1) < size_bound
    assert abs(100.0 * found.factor("itl_ms") / 80.0 - 1) < time_bound
    assert found.by_quantity["kv_tokens"].error_before == pytest.approx(0.25)


def test_one_outlier_does_not_ruin_it() -> None:
    """Among five launches that agree, one at a tenth of the others moves the plan by less than 5 %."""
    agreed = [launch(n, 80.0) for n in range(5)]
    clean = learn(agreed, SUBJECT).factor("kv_tokens")
    for when in (-1, 2, 9):
        odd = learn([*agreed, launch(when, 8.0)], SUBJECT).factor("kv_tokens")
        assert abs(odd / clean - 1) < 0.05


def test_a_first_launch_that_went_mad_is_believed_by_half() -> None:
    """One launch, ten times quicker than predicted, moves the prediction by no more than the root of three."""
    assert learn([launch(0, 10.0)], SUBJECT).factor("itl_ms") == pytest.approx(3**-0.5)


def test_a_line_beyond_all_numbers_teaches_nothing() -> None:
    """A damaged line whose ratio is too small for a number costs itself, not the plan."""
    found = learn([launch(0, 5e-324, predicted=1e308), launch(1, 80.0)], SUBJECT)
    assert found.by_quantity["itl_ms"].launches == 1


def test_the_newest_weigh_more() -> None:
    """A machine that changed for good is followed: later launches outweigh as many earlier ones."""
    before = [launch(n, 100.0) for n in range(20)]
    after = [launch(20 + n, 120.0) for n in range(20)]
    slow, quick = learn(before + after, SUBJECT), learn(after, SUBJECT)
    assert slow.factor("kv_tokens") > 1.1
    assert slow.factor("kv_tokens") < quick.factor("kv_tokens")


def test_other_models_teach_a_little() -> None:
    """A model that was never launched starts from what others on this engine and device taught, shrunken; the same
    family says more. Other devices and engines say nothing."""
    family = learn([launch(0, 80.0, model="meta-llama/Llama-3.2-3B")], SUBJECT)
    other = learn([launch(0, 80.0, model="Qwen/Qwen3-8B", family="qwen")], SUBJECT)
    assert 0.8 < family.factor("kv_tokens") < other.factor("kv_tokens") < 1.0
    assert family.by_quantity["kv_tokens"].launches == 0
    assert learn([launch(0, 80.0, device="l4")], SUBJECT).by_quantity == {}
    assert learn([launch(0, 80.0, engine="sglang")], SUBJECT).factor("kv_tokens") == 1.0


def test_a_model_that_ran_often_counts_once_for_others() -> None:
    """A hundred launches of one model teach another model no more than one launch does."""
    once = learn([launch(0, 80.0, model="m")], SUBJECT)
    often = learn([launch(n, 80.0, model="m") for n in range(100)], SUBJECT)
    assert once.factor("kv_tokens") == pytest.approx(often.factor("kv_tokens"))


def test_errors_are_told_as_they_would_have_been() -> None:
    """The error after learning is of predictions that had not seen the launch that they are compared with."""
    found = learn([launch(n, 80.0) for n in range(4)], SUBJECT).by_quantity["itl_ms"]
    assert found.error_after == pytest.approx((100 * 0.8**0.75) / 80 - 1, rel=0.2)
    assert describe("itl_ms", found).startswith("itl_ms: x0.8")
    assert "off by 25% without it" in describe("itl_ms", found)


def test_nonsense_is_passed_over() -> None:
    """Launches without a prediction, or with zeros and negatives, teach nothing and break nothing."""
    assert learn([launch(0, 0.0), launch(1, 5.0, 0.0), launch(2, -3.0)], SUBJECT).by_quantity == {}


def test_versions_of_long_ago_count_half() -> None:
    """What another version of the engine measured moves the plan less than what this version did."""
    old = learn([launch(0, 80.0, engine_version="0.8.0")], SUBJECT).factor("kv_tokens")
    assert learn([launch(0, 80.0)], SUBJECT).factor("kv_tokens") < old < 1.0
