"""`--timing FILE` of `inferry simulate`: an engine's timing by hand, or a result of `inferry bench --json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean
from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_from_bench import BenchPoint, timing_from_bench
from inferry.simulate.timing_known import KnownTiming

_FIELDS = {field.name: field for field in dataclasses.fields(EngineTiming)}
_WHOLE = frozenset({"step_tokens_max", "sequences_max", "kv_tokens", "block_tokens", "context_tokens"})
_MAY_BE_0 = frozenset(
    {"step_s_per_sequence", "step_s_per_kv_token", "prefill_s_per_pair", "request_s", "start_s", "step_s"}
)
_GPUS = "gpus"
FILE_BYTES_MAX = 512 << 20
"""Results of benches hold a line per request."""


def read_timing(path: Path, name: str) -> KnownTiming | None:
    """For the deployment `name`. None: the file is about others. Raises ConfigError that names the file and the key."""
    tree = _tree(path)
    if "format" in tree or "runs" in tree or "ttft_ms" in tree:
        return _from_bench(path)
    if tree and all(isinstance(value, Mapping) for value in tree.values()):
        return _by_hand(path, tree[name], f"{name}.") if name in tree else None
    return _by_hand(path, tree, "")


def _tree(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(
                f"--timing {path}: is larger than {FILE_BYTES_MAX >> 20} MiB, so it is no timing."
            )
        found = _parsed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--timing {path}: can't be read: {getattr(error, 'strerror', None) or error}."
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"--timing {path}: is neither JSON nor YAML: {said}") from None
    if not isinstance(found, dict) or not found:
        raise ConfigError(
            f"--timing {path}: must hold figures such as 'step_s: 0.03', by deployment or for all; or be a result of "
            "'inferry bench --json'."
        )
    return found


def _parsed(text: str) -> Any:
    """JSON is YAML too, but a bench's result would take its reader minutes."""
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def _by_hand(path: Path, told: Mapping[str, Any], prefix: str) -> KnownTiming:
    values: dict[str, Any] = {}
    for key, value in told.items():
        if key not in _FIELDS and key != _GPUS:
            hint = did_you_mean(str(key), [*_FIELDS, _GPUS])
            raise ConfigError(f"--timing {path}: {prefix}{key}: there is no such figure.{hint}")
        values[key] = _number(path, f"{prefix}{key}", str(key), value)
    said = frozenset(values)
    gpus = int(values.pop(_GPUS, 0))
    left = [name for name in _FIELDS if name not in values and name != "context_tokens"]
    doubts = (
        (f"figures that the file leaves out are the defaults (docs/simulate.md): {', '.join(left)}",)
        if left
        else ()
    )
    return KnownTiming(EngineTiming(**values), "file", f"figures by hand in {path.name}", doubts, gpus, said)


def _number(path: Path, shown: str, key: str, value: object) -> float | int:
    whole = key in _WHOLE or key == _GPUS
    least = 0 if key in _MAY_BE_0 or key == _GPUS else (1 if whole else 1e-9)
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= 1e15:
        if not whole:
            return float(value)
        if value == int(value):
            return int(value)
    kind = "a whole number" if whole else "a number"
    above = "from 0 on" if least == 0 else "above 0"
    raise ConfigError(f"--timing {path}: {shown}: must be {kind} {above}, not {value!r}.")


def _from_bench(path: Path) -> KnownTiming:
    from inferry.bench.imports import read
    from inferry.bench.report_json import RunResult

    found = read(path)
    points = []
    runs: tuple[RunResult, ...] = found.runs or (found,)
    for run in runs:
        point = _point(run)
        if point is not None:
            points.append(point)
    if not points:
        raise ConfigError(
            f"--timing {path}: has no run with times to first token, times between tokens and lengths. Measure with "
            "'inferry bench ... --sweep-concurrency 1,4,16 --json FILE'."
        )
    return timing_from_bench(points, f"a bench ({path.name})", EngineTiming())


def _point(run: Any) -> BenchPoint | None:
    ttft_ms, tpot_ms, ok = run.ttft_ms.mean, run.tpot_ms.mean, run.requests.ok
    rate = run.output_tokens_per_s
    if not ttft_ms or not tpot_ms or not ok or not rate or not run.tokens.input or not run.tokens.output:
        return None
    return BenchPoint(rate * tpot_ms / 1e3, run.tokens.input / ok, run.tokens.output / ok, ttft_ms, tpot_ms)
