"""Power of the GPUs of a run, each counted once, or the reason why it can't be told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from inferry.bench.energy import GAP_S, energy
from inferry.bench.records import EngineSample, GpuSample
from inferry.bench.steady import Steadiness

WINDOW = Steadiness(from_s=10.0, to_s=20.0, steady=True, in_flight_mean=1, in_flight_max=1, stationary=None)


def looks(
    replica: str, gpus: Iterable[tuple[int, float | None]], *, users: int = 1, until_s: int = 30
) -> list[EngineSample]:
    """One a second; before the window, GPUs draw 9000 W, which must be in no figure."""
    return [
        EngineSample(
            at_s=float(second),
            replica=replica,
            gpus=tuple(
                GpuSample(
                    gpu=gpu, power_w=None if watts is None else watts if second >= 10 else 9000.0, users=users
                )
                for gpu, watts in gpus
            ),
        )
        for second in range(until_s)
    ]


def test_power_of_all_gpus_and_energy_per_token() -> None:
    """Two replicas with two GPUs each, in the window: 1,000 W, and at 500 tokens/s two joules for each."""
    samples = looks("a-0", [(0, 300.0), (1, 200.0)]) + looks("a-1", [(2, 300.0), (3, 200.0)])
    found = energy(samples, WINDOW, 500.0)
    assert found is not None
    assert (found.gpus, found.why_not) == (4, "")
    assert found.power_w == pytest.approx(1000)
    assert found.j_per_output_token == pytest.approx(2)


def test_a_gpu_that_replicas_share_counts_once() -> None:
    """Each of both is told all of its power; the sum has it once."""
    samples = looks("a-0", [(0, 300.0)], users=2) + looks("a-1", [(0, 300.0)], users=2)
    found = energy(samples, WINDOW, 100.0)
    assert found is not None
    assert found.gpus == 1
    assert found.power_w == pytest.approx(300)


def test_a_power_that_changes_is_averaged() -> None:
    """Half of the window at 100 W and half at 300 W are 200 W."""
    early = [each for each in looks("a-0", [(0, 100.0)]) if each.at_s < 15]
    late = [each for each in looks("a-0", [(0, 300.0)]) if each.at_s > 15]
    found = energy(early + late, WINDOW, None)
    assert found is not None
    assert found.power_w == pytest.approx(200)
    assert found.j_per_output_token is None


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (looks("a-0", [(0, 300.0)], users=2), "GPU 0 computes for others too"),
        (looks("a-0", [(0, 300.0), (1, None)]), "GPU 1 does not tell what it draws"),
        (looks("a-0", [(0, 300.0)]) + looks("a-1", []), "nobody knows on which GPUs a-1 computes"),
        (looks("a-0", [(0, 300.0)], until_s=15), "GPU 0 told nothing for 6.0 s of the window"),
    ],
)
def test_what_cannot_be_told_is_said(samples: list[EngineSample], why: str) -> None:
    """No figure where the sum would not be the power of all that serves, and of nothing else; the reason instead."""
    assert GAP_S < 6
    found = energy(samples, WINDOW, 100.0)
    assert found is not None
    assert (found.power_w, found.j_per_output_token, found.why_not) == (None, None, why)


def test_without_gpus_nothing_is_said() -> None:
    """As of engines at a URL, or on a machine that has none."""
    assert energy(looks("a-0", []), WINDOW, 100.0) is None
    assert energy(looks("a-0", [(0, 300.0)]), None, 100.0) is None
