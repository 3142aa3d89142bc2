"""Wall time as text and back."""

from __future__ import annotations

import pytest

from inferry.core.clock import utc_text, wall_s_of


@pytest.mark.parametrize("wall_s", [0.0, 1_767_225_600.0, 1_709_164_799.0])
def test_text_and_back(wall_s: float) -> None:
    """What is printed can be read again."""
    assert wall_s_of(utc_text(wall_s)) == wall_s


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "2026-01-01T00:00:00+01:00"])
def test_not_utc(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError):
        wall_s_of(text)
