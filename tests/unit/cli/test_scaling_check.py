"""Schedules name time zones that this machine knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferry.cli.scaling_check import check_scaling
from inferry.core.config_file import parse_text
from inferry.core.errors import ConfigError

FILE = """
deployments:
  chat:
    engine: simulated
    scaling:
      max: 4
      schedule:
        - {{begin: "08:00", end: "18:00", min: 2}}
        - {{begin: "08:00", end: "18:00", min: 2, timezone: {zone}}}
"""


def test_a_time_zone_that_nobody_knows() -> None:
    """Its schedule would never hold: the file is refused, with the key, and what to write."""
    check_scaling(parse_text(FILE.format(zone="Europe/Berlin"), Path("inferry.yaml"), {}).config)
    for zone in ("Europe/Atlantis", "../etc/passwd", "''"):
        with pytest.raises(
            ConfigError, match=r"^deployments\.chat\.scaling\.schedule\.1\.timezone: "
        ) as caught:
            check_scaling(parse_text(FILE.format(zone=zone), Path("inferry.yaml"), {}).config)
        assert caught.value.message.count("timezone") == 1
