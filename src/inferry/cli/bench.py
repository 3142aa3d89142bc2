"""`inferry bench`: how many users does this carry, and at which latency?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from inferry.cli import bench_options as options
from inferry.cli.down import Port
from inferry.core.errors import ConfigError, InferryError

if TYPE_CHECKING:
    from inferry.bench.report import Report
    from inferry.cli.bench_run import Wish

EXIT_GOAL_MISSED = 1
EXIT_BAD_INPUT = 2
EXIT_INVALID = 3
EXIT_INTERRUPTED = 130


def bench(
    target: options.TargetName,
    files: options.Files = None,
    rate: options.Rate = None,
    arrivals: options.ArrivalsName = None,
    poisson: options.IsPoisson = False,
    burstiness: options.Burstiness = None,
    concurrency: options.Concurrency = None,
    ramp: options.RampText = None,
    steps: options.StepsText = None,
    trace_speed: options.TraceSpeed = None,
    duration: options.Duration = "30s",
    requests: options.Requests = None,
    warmup: options.Warmup = "0s",
    abandon_share: options.AbandonShare = 0.0,
    abandon_after: options.AbandonAfter = "2s",
    seed: options.Seed = 0,
    input_tokens: options.InputTokens = None,
    output_tokens: options.OutputTokens = None,
    prefix_tokens: options.PrefixTokens = 0,
    prefix_groups: options.PrefixGroups = 1,
    same_prompts: options.SamePrompts = False,
    workload: options.WorkloadFile = None,
    trace: options.TraceFile = None,
    trace_tokens_scale: options.TraceScale = 1.0,
    sessions: options.SessionTurns = None,
    turn_tokens: options.TurnTokens = None,
    think: options.Think = "1s",
    stop_early: options.StopEarly = False,
    slo: options.SloText = None,
    goodput_min: options.GoodputMin = None,
    find_capacity: options.FindCapacity = False,
    sweep_rates: options.SweepRates = None,
    sweep_concurrency: options.SweepConcurrency = None,
    compare: options.CompareWith = None,
    json: options.JsonFile = None,
    csv: options.CsvFile = None,
    html: options.HtmlFile = None,
    price_per_hour: options.PricePerHour = None,
    currency: options.Currency = None,
    anyway: options.Anyway = False,
    quiet: options.Quiet = False,
    show_plan: options.ShowPlan = False,
    model: options.Model = None,
    api: options.ApiName = "chat",
    key_variable: options.KeyVariable = None,
    port: Port = None,
    no_stream: options.NoStream = False,
    timeout: options.Timeout = "600s",
    extra: options.Extra = None,
    engine: options.EngineName = None,
    calibrate: options.Calibrate = None,
    processes: options.Processes = None,
    kill_replica_after: options.KillAfter = None,
    stop_replica_after: options.StopAfter = None,
) -> None:
    """Load a server and say what its users would see; find how much it carries; compare two results.

    Exit codes: 0 fine, 1 less goodput than --goodput-min or no answer at all, 2 bad input or nobody there, 3 INVALID: the client was the
    limit.
    """
    given = dict(locals())  # before anything else is assigned: exactly the parameters
    try:
        code = _bench(given)
    except InferryError as error:
        typer.echo(f"error: {error.message}", err=True)
        code = EXIT_BAD_INPUT
    raise typer.Exit(code)


def _bench(given: dict[str, Any]) -> int:
    # The room and httpx are loaded here: `inferry --help` needs none of them.
    from inferry.cli.bench_target import resolve
    from inferry.cli.bench_wish import check_files, wish_of, words_of

    if given["target"] == "compare":
        from inferry.cli.bench_compare import compare_files

        return compare_files(given["files"] or [], anyway=given["anyway"], json=given["json"])
    if given["files"]:
        raise ConfigError(
            f"{given['files'][0]}: one TARGET at a time. To compare results, write 'compare A B'."
        )
    words = words_of(given)
    check_files(given)
    asked = resolve(given["target"], words.api, given["model"], given["key_variable"], given["port"])
    wish = wish_of(given, words, asked)
    if given["show_plan"]:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(wish.plan), indent=2).decode())
        return 0
    return _run(given, wish)


def _run(given: dict[str, Any], wish: Wish) -> int:
    import uvloop

    from inferry.bench import report_csv, report_html, report_json, report_text
    from inferry.cli.bench_run import measure

    report = uvloop.run(measure(wish))
    typer.echo(report_text.text(report))
    if wish.beside is not None:
        from inferry.cli.bench_compare import compare_places

        typer.echo("\n" + compare_places(report, wish.beside[0]))
    if given["calibrate"]:
        from inferry.cli.bench_learning import teach

        typer.echo("\n" + teach(report, wish.asked))
    if given["json"] is not None:
        report_json.write(given["json"], report)
    if given["csv"] is not None:
        report_csv.write(given["csv"], report)
    if given["html"] is not None:
        _write(given["html"], report_html.page(report))
    return exit_code(report, given["goodput_min"])


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be written: {error.strerror or error}") from error


def exit_code(report: Report, goodput_min: float | None) -> int:
    """What CI hears. Of a search, what failed above its answer is no failure."""
    runs = report.runs if report.capacity is None else (report.main,)
    if any(run.record.stopped_early for run in report.runs):
        return EXIT_INTERRUPTED
    if any(run.validity.verdict == "invalid" for run in runs):
        return EXIT_INVALID
    if report.capacity is not None:
        return 0 if report.capacity.found.rate else EXIT_GOAL_MISSED
    if not all(run.summary.requests.ok for run in runs):
        return EXIT_GOAL_MISSED
    if goodput_min is not None and any((run.summary.goodput.share or 0.0) < goodput_min for run in runs):
        return EXIT_GOAL_MISSED
    return 0
