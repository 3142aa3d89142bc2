"""Times as people write them."""

from __future__ import annotations

import pytest

from inferry.core.errors import BadKeySetting
from inferry.ledger.expiry import duration_s, expiry_wall_s

NOW_S = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("12h", 43200), ("30d", 2592000), ("4w", 2419200), (" 0s ", 0)],
)
def test_spans(text: str, seconds: float) -> None:
    """A number and a unit; as an expiry, it counts from now."""
    assert duration_s(text, "grace") == seconds
    assert expiry_wall_s(text, NOW_S) == NOW_S + seconds


@pytest.mark.parametrize("text", ["", "30", "d", "1.5h", "-1d", "30 d", "1y", "٣d", "1" * 10 + "s"])
def test_no_spans(text: str) -> None:
    """Anything else is refused with the field and examples."""
    with pytest.raises(BadKeySetting, match="write 90s, 30m") as caught:
        duration_s(text, "grace")
    assert caught.value.param == "grace"


@pytest.mark.parametrize(
    "text", ["2026-01-02", "2026-01-02 00:00", "2026-01-02T00:00:00Z", "2026-01-02 00:00:00+00:00"]
)
def test_dates(text: str) -> None:
    """A date is its first moment, in UTC whatever this machine's time zone is."""
    assert expiry_wall_s(text, NOW_S) == NOW_S + 86400


def test_never() -> None:
    """The word for a key without an end."""
    assert expiry_wall_s("never", NOW_S) is None


@pytest.mark.parametrize("text", ["tomorrow", "2026-02-30", "2026-01-02T00:00:00+02:00", "30", "nan"])
def test_no_times(text: str) -> None:
    """Refused with the value and every way to write one; another time zone is not silently taken for UTC."""
    with pytest.raises(BadKeySetting, match=r"is no time: .*or never"):
        expiry_wall_s(text, NOW_S)
