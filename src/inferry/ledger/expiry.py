"""Times as people write them for keys: `30d`, `12h`, `2027-01-31`, `never`."""

from __future__ import annotations

import re

from inferry.core.clock import wall_s_of
from inferry.core.errors import BadKeySetting

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(\d{1,9})([smhdw])", re.ASCII)


def duration_s(text: str, param: str) -> float:
    """Seconds of `90s`, `30m`, `12h`, `30d` or `4w`. Raises BadKeySetting, which names `param`."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise BadKeySetting(f"'{text}' is no time span: write 90s, 30m, 12h, 30d or 4w", param=param)
    return float(int(found[1]) * _UNITS_S[found[2]])


def expiry_wall_s(text: str, now_wall_s: float) -> float | None:
    """When a key ends that is given `30d` (from now), a UTC date or time, or `never` (None). Raises BadKeySetting."""
    if text.strip() == "never":
        return None
    if _DURATION.fullmatch(text.strip()):
        return now_wall_s + duration_s(text, "expires")
    try:
        return wall_s_of(text.strip())
    except (ValueError, OverflowError) as error:
        raise BadKeySetting(
            f"'{text}' is no time: write a span (12h, 30d, 4w), a UTC date (2027-01-31) or time "
            "(2027-01-31T12:00:00Z), or never",
            param="expires",
        ) from error
