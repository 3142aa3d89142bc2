"""`INFERRY_HOME/calibration.json`: what this machine was measured at. Written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from inferry.core.errors import ConfigError
from inferry.planner.calibration import Calibration, Fingerprint

NAME = "calibration.json"


def read_calibration(home: Path, host: Fingerprint | None = None) -> Calibration | None:
    """None where there is none, or where it is of another machine than `host`. Raises ConfigError if it is damaged."""
    path = home / NAME
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    try:
        found = msgspec.json.decode(text, type=Calibration)
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"{path}: is damaged ({error}). Take it again with 'inferry calibrate', or remove it with "
            "'inferry calibrate --forget'."
        ) from error
    return found if host is None or found.host == host else None


def write_calibration(home: Path, calibration: Calibration) -> Path:
    """Raises ConfigError where it can't be written."""
    path = home / NAME
    beside = path.with_name(f"{NAME}.{os.getpid()}")
    try:
        home.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from error
    return path


def forget_calibration(home: Path) -> bool:
    """Whether there was one."""
    path = home / NAME
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(f"{path}: can't be removed: {error.strerror or error}") from error
    return True
