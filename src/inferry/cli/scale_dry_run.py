"""`inferry scale dry-run`: what rules would decide, now and over what was seen lately; nothing is changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson, scaling_client_of
from inferry.cli.scale_words import counted, decision_line, named, step
from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean

if TYPE_CHECKING:
    from inferry.admin.scaling_view import DryRunView
    from inferry.core.scaling_settings import Scaling


def dry_run(
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Its name in the file.")],
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Rules of this file. Left out: those in force."),
    ] = None,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Show what the rules of a file would decide for a deployment: now, and at each of the looks of the last hour.

    The figures are real, and nothing is changed. Each look is as it was, with the replicas that there were then.
    """
    scaling = None if file is None else scaling_of(file, deployment)
    found = scaling_client_of(port).dry_run(deployment, scaling)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    whose = "the rules in force" if file is None else f"the rules of {file}"
    for line in dry_run_lines(found, whose):
        typer.echo(line)


def scaling_of(file: Path, deployment: str) -> Scaling:
    """What `file` says of this deployment. Raises ConfigError with the way out."""
    from inferry.core.config_file import load_file
    from inferry.core.deployment_base import ManagedBase

    deployments = load_file(file, os.environ).config.deployments
    found = deployments.get(deployment)
    if found is None:
        raise ConfigError(f"{file} has no deployment '{deployment}'.{did_you_mean(deployment, deployments)}")
    if not isinstance(found, ManagedBase) or found.scaling is None:
        raise ConfigError(f"{file}: 'deployments.{deployment}' has no 'scaling' to try.")
    return found.scaling


def dry_run_lines(found: DryRunView, whose: str) -> Iterator[str]:
    """Looks that would change something, and the last one in any case."""
    if not found.looks:
        yield f"Nothing was seen of '{found.deployment}' yet: try again after the first look."
        return
    first, last = found.looks[0], found.looks[-1]
    span_min = (last.at - first.at) / 60
    name = named(f"'{found.deployment}'", found.simulated)
    yield (
        f"What {whose} would decide for {name}, by "
        f"{counted(len(found.looks), 'look')} of the last {span_min:.0f} min; nothing is changed:"
    )
    changes = [each for each in found.looks[:-1] if each.to != each.was]
    for _, same in groupby(changes, key=lambda each: (each.was, each.to, each.rule)):
        head, *more = same
        yield decision_line(head, len(more))
    if not changes:
        yield "  no change until now"
    yield f"now: {step(last.was, last.to)}: {last.because}"
    for alert in last.alerts:
        yield f"now: alert: {alert.rule}: {alert.because}"
