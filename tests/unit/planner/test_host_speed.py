"""The law of a CPU engine: what it says, and that its fit finds it again."""

from __future__ import annotations

import pytest

from inferry.core.errors import ConfigError
from inferry.planner.host_speed import (
    HostModel,
    HostSpeed,
    Probe,
    fit_host_speed,
    predict_on_host,
    prefill_s,
    step_s,
)
from inferry.planner.load import Load

SMALL = HostModel(layers=30, weights_bytes=100e6, flops_per_token=270e6, attention_flops_per_pair=70e3)
LARGE = HostModel(layers=24, weights_bytes=2e9, flops_per_token=4e9, attention_flops_per_pair=200e3)
SPEED = HostSpeed(
    bandwidth_bytes_per_s=40e9,
    layer_s=20e-6,
    decode_flops_per_s=45e9,
    batch_flops_per_s=90e9,
    batch_share=0.8,
    decode_attention_flops_per_s=20e9,
    prefill_flops_per_s=100e9,
    prefill_attention_flops_per_s=60e9,
    request_s=0.01,
)


def probe(model: HostModel, speed: HostSpeed, prompt: int, answer: int, at_once: int) -> Probe:
    said = predict_on_host(model, speed, Load(prompt, answer, all_at_once=at_once), slots=8)
    return Probe(prompt, answer, at_once, said.ttft_ms.value, said.itl_ms.value)


SHAPES = ((32, 32, 1), (128, 24, 1), (512, 24, 1), (32, 32, 2), (32, 32, 4))


def test_a_step_by_hand() -> None:
    """One sequence at 100 tokens: 30 layers x 20 us, 100 MB at 40 GB/s, the products beyond that, and attention."""
    parts = step_s(SMALL, SPEED, 1, 100)
    assert parts["overhead"] == pytest.approx(0.6e-3)
    assert parts["weights"] == pytest.approx(2.5e-3)
    assert parts["weights"] + parts["compute"] == pytest.approx(6e-3)
    assert parts["kv"] == pytest.approx(100 * 70e3 / 20e9)


def test_the_fit_finds_the_law_again() -> None:
    """Probes that the law itself made lead back to its predictions: other lengths, other numbers at once, another model."""
    found = fit_host_speed("llamacpp", SMALL, 40e9, [probe(SMALL, SPEED, *shape) for shape in SHAPES])
    for model in (SMALL, LARGE):
        for shape in ((700, 64, 1), (256, 32, 3), (64, 100, 8)):
            truth, said = probe(model, SPEED, *shape), probe(model, found, *shape)
            assert said.itl_ms == pytest.approx(truth.itl_ms, rel=0.02)
            assert said.ttft_ms == pytest.approx(truth.ttft_ms, rel=0.02)


def test_noise_makes_no_nonsense() -> None:
    """Probes that contradict each other give finite, positive predictions."""
    odd = [Probe(32, 32, 1, 90, 20), Probe(128, 24, 1, 50, 9), Probe(512, 24, 1, 40, 5),
           Probe(32, 32, 2, 10, 3), Probe(32, 32, 4, 10, 2)]  # fmt: skip
    found = fit_host_speed("vllm", SMALL, 40e9, odd)
    said = predict_on_host(SMALL, found, Load(100, 100, concurrency=3), slots=4)
    assert 0 < said.itl_ms.value < 1e3
    assert 0 < said.ttft_ms.value < 1e4
    assert 0 < said.output_tokens_per_s.value < 1e5


def test_too_few_probes_are_refused() -> None:
    """Constants that nothing measured are not made up."""
    with pytest.raises(ConfigError, match="three lengths"):
        fit_host_speed("llamacpp", SMALL, 40e9, [Probe(32, 32, 1, 10, 5), Probe(32, 32, 2, 10, 5)])


def test_more_is_never_less() -> None:
    """More at once, longer prompts and more weights never make a step quicker; more at once never lowers tokens/s."""
    steps = [sum(step_s(SMALL, SPEED, n, 100).values()) for n in (1, 1.5, 2, 3, 8)]
    assert steps == sorted(steps)
    assert prefill_s(SMALL, SPEED, 100) < prefill_s(SMALL, SPEED, 200) < prefill_s(LARGE, SPEED, 200)
    rates = [
        predict_on_host(SMALL, SPEED, Load(64, 64, concurrency=n), slots=8).output_tokens_per_s.value
        for n in (2, 4, 8, 16)
    ]
    assert rates == sorted(rates)


def test_who_has_no_slot_waits() -> None:
    """Beyond the slots, requests wait for as long as those before them take, and the rate stays; a burst is taken in waves."""
    full = predict_on_host(SMALL, SPEED, Load(64, 64, concurrency=4), slots=4)
    wave, waves = (
        predict_on_host(SMALL, SPEED, Load(64, 64, all_at_once=n), slots=4).ttft_ms.value for n in (4, 10)
    )
    cycle_ms = 4e3 / full.requests_per_s.value
    assert waves == pytest.approx(wave + (4 * 0 + 4 * 1 + 2 * 2) / 10 * cycle_ms, rel=0.02)
    more = predict_on_host(SMALL, SPEED, Load(64, 64, concurrency=8), slots=4)
    assert (more.running, more.queued, more.limited_by) == (4, 4, "slots")
    assert more.output_tokens_per_s.value == pytest.approx(full.output_tokens_per_s.value)
    assert more.ttft_ms.value > 10 * full.ttft_ms.value


def test_an_open_loop_is_refused_in_words() -> None:
    """A rate is not something that this law answers; the message says what is."""
    with pytest.raises(ConfigError, match=r"load\.concurrency"):
        predict_on_host(SMALL, SPEED, Load(64, 64, requests_per_s=1), slots=4)
