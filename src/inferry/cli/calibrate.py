"""`inferry calibrate`: what this machine really does, and what launches taught."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from inferry.planner.calibration import Calibration

# What measures is imported inside: `inferry --help` needs none of it.


def calibrate(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions.")] = False,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE",
            help="Start this engine too and probe it for a minute: llamacpp, vllm.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="REF", help="The model to probe it with: hf:..., file:...", show_default=False),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show what is known; measure nothing.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Remove what was measured and learned.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Measure this machine's memory bandwidth and FLOP/s, and how fast an engine is on it, for the planner."""
    from inferry.cli.calibrate_text import calibration_json, calibration_text
    from inferry.fleet.calibration_file import forget_calibration, read_calibration
    from inferry.fleet.launch_journal import forget_launches, read_launches

    home = inferry_home(os.environ)
    if (engine is None) != (model is None):
        raise ConfigError(
            "--engine and --model go together: which engine is to be probed, and with which model."
        )
    if sum((show, forget, engine is not None)) > 1:
        raise ConfigError("--show, --forget and --engine exclude each other: choose one.")
    if forget:
        there, launches = forget_calibration(home), forget_launches(home)
        typer.echo(f"Forgotten: {'the calibration' if there else 'no calibration'} and {launches} launches.")
        return
    found = read_calibration(home) if show else _measure(quick, engine, model)
    launches_known = read_launches(home)
    typer.echo(
        calibration_json(found, launches_known) if as_json else calibration_text(found, launches_known)
    )


def _say(words: str) -> None:
    typer.echo(words, err=True)


def _measure(quick: bool, engine: str | None, model: str | None) -> Calibration:
    from msgspec.structs import replace

    from inferry.cli.calibrate_machine import measure_machine
    from inferry.fleet.calibration_file import read_calibration, write_calibration

    home = inferry_home(os.environ)
    if engine is not None:
        from inferry.cli.calibrate_engine import check_engine

        check_engine(engine)
    _say("Measuring memory bandwidth and FLOP/s ...")
    # Engines bring a torch of their own.
    pythons = tuple(sorted((home / "engines").glob("*/bin/python")))
    calibration = measure_machine(os.environ, quick=quick, pythons=pythons)
    try:
        before = read_calibration(home, calibration.host)
    except ConfigError:  # of another version, or damaged: it is taken again now
        before = None
    engines = () if before is None else before.engines
    if engine is not None and model is not None:
        from inferry.cli.calibrate_engine import calibrate_engine

        _say(f"Starting {engine} with {model} ...")
        bandwidth = calibration.cpu.bandwidth_bytes_per_s.value
        new = calibrate_engine(engine, model, home, os.environ, bandwidth, quick=quick, say=_say)
        same = (new.engine, new.weights, new.model)
        engines = (*(each for each in engines if (each.engine, each.weights, each.model) != same), new)
    calibration = replace(calibration, engines=engines)
    write_calibration(home, calibration)
    return calibration
