"""`inferry bench`: how many users does this carry, and at which latency?"""

from __future__ import annotations

import dataclasses
from typing import Any

import typer

from inferry.cli import bench_options as options
from inferry.cli.down import Port
from inferry.core.errors import ConfigError

EXIT_BAD_INPUT = 2


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
    processes: options.Processes = None,
    kill_replica_after: options.KillAfter = None,
    stop_replica_after: options.StopAfter = None,
) -> None:
    """Load a server and say what its users would see; find how much it carries; compare two results.

    Exit codes: 0 fine, 1 less goodput than --goodput-min, 2 bad input, 3 INVALID: the client was the limit.
    """
    given = dict(locals())  # before anything else is assigned: exactly the parameters
    try:
        raise typer.Exit(_bench(given))
    except ConfigError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from None


def _bench(given: dict[str, Any]) -> int:
    from inferry.bench.goodput import parse_slo
    from inferry.bench.plan import Slo
    from inferry.cli.bench_plan import Words, plan_of
    from inferry.cli.bench_target import resolve

    if given["target"] == "compare":
        raise ConfigError("'compare' is not there yet.")
    if given["files"]:
        raise ConfigError(
            f"{given['files'][0]}: one TARGET at a time. To compare results, write 'compare A B'."
        )
    words = Words(**{field.name: given[field.name] for field in dataclasses.fields(Words)})
    slo = Slo() if given["slo"] is None else parse_slo(given["slo"])
    asked = resolve(given["target"], words.api, given["model"], given["key_variable"], given["port"])
    plan = plan_of(words, asked.base_url, asked.model, asked.key_variable, slo, given["processes"] or 1)
    if given["show_plan"]:
        _print_plan(plan)
        return 0
    raise ConfigError("Nothing can be sent yet; --show-plan shows what would be.")


def _print_plan(plan: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(plan), indent=2).decode())
