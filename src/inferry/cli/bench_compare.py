"""`inferry bench compare A B`: two results, and how sure their difference is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer

from inferry.bench.compare import Comparison, compare
from inferry.bench.compare_text import text
from inferry.bench.imports import read
from inferry.bench.report import Report
from inferry.bench.report_json import RunResult, result
from inferry.core.errors import ConfigError

EXIT_WORSE = 1
EXIT_INVALID = 3


def compare_files(files: list[Path], *, anyway: bool, json: Path | None) -> int:
    """The exit code: 1 where B is worse, 3 where a run of either is invalid. Raises ConfigError for files that can't be compared."""
    if len(files) != 2:
        raise ConfigError("'compare' takes two results: inferry bench compare before.json after.json")
    one, other = (_runs(path) for path in files)
    comparison = compare(one, other, anyway=anyway)
    typer.echo(text(comparison, *_names(files)))
    if json is not None:
        write(json, comparison)
    if comparison.invalid:
        return EXIT_INVALID
    return EXIT_WORSE if comparison.worse else 0


def compare_places(report: Report, names: tuple[str, str]) -> str:
    """What the first of two places, a gateway for instance, adds to the second."""
    runs = result(report).runs
    of_each = [tuple(run for run in runs if run.name == name) for name in names]
    if not all(of_each):
        return "Stopped before both were measured."
    return text(compare(of_each[1], of_each[0]), names[1], names[0])


def write(path: Path, comparison: Comparison) -> None:
    try:
        path.write_bytes(msgspec.json.encode(comparison) + b"\n")
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from error


def _runs(path: Path) -> tuple[RunResult, ...]:
    found = read(path)
    if found.capacity is not None or len({_load(run) for run in found.runs}) > 1:
        raise ConfigError(f"{path}: holds runs at several loads; compare results of one load each.")
    names = list(dict.fromkeys(run.name for run in found.runs))
    if len(names) > 1:
        raise ConfigError(
            f"{path}: holds runs at several places ({', '.join(names)}), and two sides of one comparison are not one "
            "result. Measure each place by itself, without --compare, and compare those results."
        )
    return found.runs or (found,)


def _load(run: RunResult) -> bytes:
    return b"" if run.plan is None else msgspec.json.encode(run.plan.arrivals)


def _names(files: list[Path]) -> tuple[str, str]:
    one, other = (path.stem for path in files)
    return (one, other) if one != other else ("A", "B")
