"""`inferry simulate`: what would this deployment file do under that load? Nothing is started."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from inferry.cli import simulate_options as options
from inferry.core.errors import ConfigError

if TYPE_CHECKING:
    from inferry.cli.simulate_run import Simulated, Variant
    from inferry.simulate.arrivals import Arrival


def simulate(
    files: options.Files,
    trace: options.TraceFile = None,
    replay: options.Replay = None,
    since: options.Since = None,
    until: options.Until = None,
    rate: options.Rate = None,
    arrivals: options.ArrivalsName = None,
    burstiness: options.Burstiness = None,
    ramp: options.RampText = None,
    steps: options.StepsText = None,
    duration: options.Duration = "1h",
    input_tokens: options.InputTokens = None,
    output_tokens: options.OutputTokens = None,
    prefix_tokens: options.PrefixTokens = 0,
    prefix_groups: options.PrefixGroups = 1,
    tenants: options.Tenants = None,
    share: options.Share = 1.0,
    speed: options.Speed = 1.0,
    repeat: options.Repeat = 1,
    hours: options.Hours = None,
    requests: options.Requests = None,
    seed: options.Seed = 0,
    deployment: options.DeploymentName = None,
    set_: options.Set = None,
    compare: options.Compare = None,
    failures: options.Failures = None,
    gateways: options.Gateways = None,
    gpu: options.Gpu = None,
    timing: options.Timing = None,
    start_s: options.StartS = None,
    slo: options.SloText = None,
    as_json: options.AsJson = False,
    html: options.HtmlFile = None,
    price_per_gpu_hour: options.PricePerGpuHour = None,
) -> None:
    """Say what a deployment file would do under a load: latencies, rejections, replicas, cost. Nothing is started.

    The gateway's and the autoscaler's own code decides; engines are simulated, as fast as the planner, a calibration or
    a bench says.
    """
    _simulate(dict(locals()))  # before anything else is assigned: exactly the parameters


def _simulate(given: dict[str, Any]) -> None:
    # Loaded here: `inferry --help` needs none of it.
    from inferry.cli.simulate_failures import failures_of
    from inferry.cli.simulate_load import load_of
    from inferry.cli.simulate_load_words import LoadWords
    from inferry.cli.simulate_run import Conditions, variants_of
    from inferry.cli.simulate_settings import setting_of

    load = load_of(LoadWords(**{each.name: given[each.name] for each in fields(LoadWords)}))
    conditions = Conditions(
        load=load,
        deployment=given["deployment"],
        seed=given["seed"],
        gateways=given["gateways"],
        failures=failures_of(given["failures"]),
        slo=_slo(given["slo"]),
        start_s=given["start_s"],
        price_per_gpu_hour=given["price_per_gpu_hour"],
    )
    settings = [setting_of(each) for each in given["set_"] or ()]
    variants = variants_of(given["files"], settings, given["compare"] or ())
    _check_writable(given["html"])
    found = _run(variants, conditions, given)
    _tell(found, conditions, given)


def _run(variants: list[Variant], conditions: Any, given: dict[str, Any]) -> list[Simulated]:
    from inferry.cli.simulate_run import simulate
    from inferry.cli.simulate_settings import load_with
    from inferry.cli.simulate_timing import Timings, TimingWish

    wish = TimingWish(given["gpu"], given["timing"], conditions.load.block_tokens)
    loaded = [load_with(each.path, each.settings, os.environ) for each in variants]
    span_s = conditions.load.until_s or _span_s(conditions.load.arrivals())
    progress = sys.stderr.isatty() and not given["as_json"]
    found = []
    for variant, file in zip(variants, loaded, strict=True):
        arrivals = conditions.load.arrivals()
        if progress:
            arrivals = _with_progress(arrivals, variant.name if len(variants) > 1 else "", span_s)
        found.append(simulate(variant, file, Timings(file, wish, os.environ), conditions, arrivals, span_s))
        if progress:
            sys.stderr.write("\r\033[K")
    if not found[0].result.requests:
        raise ConfigError(_nothing(found[0], conditions.load.arrivals()))
    return found


def _nothing(found: Simulated, arrivals: Iterator[Arrival]) -> str:
    names = sorted({each.deployment for each in arrivals} - {""})
    if not names:
        return "nothing comes: the load has no request in that time."
    return (
        f"nothing comes: the load has no request for '{found.deployment}', only for {', '.join(names)}. Name one of them by "
        "--deployment; it must be in the file."
    )


def _span_s(arrivals: Iterator[Arrival]) -> float:
    last_s = 0.0
    for each in arrivals:
        last_s = each.at_s
    return max(last_s, 1.0)


def _with_progress(arrivals: Iterator[Arrival], name: str, span_s: float) -> Iterator[Arrival]:
    """Says every percent how far it is."""
    told = -1
    for each in arrivals:
        percent = min(int(100 * each.at_s / span_s), 100)
        if percent > told:
            told = percent
            sys.stderr.write(f"\rsimulating {name}{' ' if name else ''}{percent}%")
            sys.stderr.flush()
        yield each


def _slo(text: str | None) -> Any:
    if text is None:
        return None
    from inferry.bench.goodput import parse_slo
    from inferry.core.scaling_settings import ScalingSlo

    asked = parse_slo(text)
    if asked.e2e_ms is not None:
        raise ConfigError(f"--slo {text}: here there are ttft and itl; e2e is for 'inferry bench'.")
    return ScalingSlo(ttft_ms=asked.ttft_ms, itl_ms=asked.itl_ms)


def _check_writable(path: Path | None) -> None:
    """Before minutes of work."""
    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir():
        why = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise ConfigError(f"--html {path}: {why}. Name a file in a folder that is there.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--html {path}: can't be written. Name a file that you may write.")


def _tell(found: list[Simulated], conditions: Any, given: dict[str, Any]) -> None:
    from inferry.cli.simulate_compare import compare_text
    from inferry.cli.simulate_json import to_json
    from inferry.cli.simulate_text import simulated_text

    columns = shutil.get_terminal_size((100, 24)).columns
    load, seed = conditions.load.says, conditions.seed
    if given["as_json"]:
        typer.echo(to_json(found, load, seed))
    elif len(found) > 1:
        typer.echo(compare_text(found, load, seed, columns))
    else:
        typer.echo(simulated_text(found[0], load, seed, columns))
    if given["html"] is not None:
        from inferry.cli.simulate_html import page

        _write(given["html"], page(found, load, seed))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from error
    typer.echo(f"Wrote {path}", err=True)
