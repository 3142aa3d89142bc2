"""The oracle of benchmarks/scaling is the cheapest schedule of its kind, or ours would look better than it is."""

import pytest
from benchmarks.scaling.trials import MARGIN_STEP, cheapest

COUNTS = [100.0] * 1200


def test_the_margin_is_the_least_that_keeps_enough() -> None:
    """Within MARGIN_STEP above the least margin that is enough, not merely somewhere above."""

    def run(wanted: list[int]) -> tuple[int, float, float]:
        return wanted[0], 0.995 if wanted[0] >= 10_123 else 0.98, float(wanted[0])

    settings, found = cheapest(COUNTS, 0.01, run, attainment=0.99, start_s=120.0)
    assert 1.0122 <= settings["margin"] <= 1.0123 + MARGIN_STEP
    assert 10_123 <= found <= 10_123 + 10_000 * MARGIN_STEP


def test_no_margin_is_enough() -> None:
    """Then nothing is taken for an oracle."""
    with pytest.raises(ValueError, match=r"no margin up to 1.15 keeps 99.0%"):
        cheapest(COUNTS, 1.0, lambda wanted: (0, 0.5, 1.0), attainment=0.99, start_s=120.0)
