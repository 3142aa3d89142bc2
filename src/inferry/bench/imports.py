"""Reads a result, ours or another tool's: whatever the file is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inferry.bench import import_guidellm, import_vllm, report_json
from inferry.bench.imported_result import together
from inferry.bench.report_json import Result
from inferry.core.errors import ConfigError

BYTES_MAX = 1 << 30
"""A result of a million requests is below half of it."""


def read(path: Path) -> Result:
    """ConfigError when the file can't be read, or is no result that we know."""
    try:
        if path.stat().st_size > BYTES_MAX:
            raise ConfigError(f"{path}: larger than {BYTES_MAX >> 20} MiB, so it is no result of a bench")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    found, *more = _objects(path, data)
    if more:
        return together([_foreign(path, each) for each in (found, *more)])
    if found.get("format") == report_json.FORMAT:
        if found.get("version") != report_json.VERSION:
            raise ConfigError(
                f"{path}: version {found.get('version')} of the format; this Inferry reads {report_json.VERSION}"
            )
        return report_json.decode(data, str(path))
    return _foreign(path, found)


def _objects(path: Path, data: bytes) -> list[dict[str, Any]]:
    """One, or one per line: `vllm bench serve --append-result` adds lines. At least one."""
    # Not msgspec: other tools write NaN and Infinity.
    try:
        try:
            found = [json.loads(data)]
        except ValueError as error:
            lines = data.splitlines()
            if len(lines) < 2:
                raise
            try:
                found = [json.loads(line) for line in lines if line.strip()]
            except ValueError:
                raise error from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    if not found or not all(isinstance(each, dict) for each in found):
        raise ConfigError(f"{path}: {_UNKNOWN}")
    return found


_UNKNOWN = "no result of 'inferry bench --json', 'vllm bench serve --save-result' or guidellm (JSON)"


def _foreign(path: Path, found: dict[str, Any]) -> Result:
    for tool in (import_vllm, import_guidellm):
        if tool.is_it(found):
            try:
                result: Result = tool.read(found)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
                raise ConfigError(
                    f"{path}: looks like a result of {tool.MADE_BY}, of a version that is not known: "
                    f"{type(error).__name__}: {error}"
                ) from error
            return result
    raise ConfigError(f"{path}: {_UNKNOWN}")
