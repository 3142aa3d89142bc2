"""`inferry rollout`: replace the replicas of a deployment with a canary first, see how far that is, take it back."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.cli.down import Port
from inferry.cli.lifecycle_words import AsJson, client_of, phase_in_words, show
from inferry.cli.rollout_steps import by_hand, of_deployment, showing_steps
from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError
from inferry.core.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferry.admin.lifecycle_client import LifecycleClient
    from inferry.admin.rollout_view import RolloutView


class Action(StrEnum):
    START = "start"
    STATUS = "status"
    UNDO = "undo"


def rollout(
    deployment: Annotated[
        str | None, typer.Argument(metavar="[DEPLOYMENT]", help="Its name; or --all.", show_default=False)
    ] = None,
    action: Annotated[
        Action, typer.Argument(metavar="[start|status|undo]", help="What to do.")
    ] = Action.START,
    every: Annotated[bool, typer.Option("--all", help="All deployments, one after the other.")] = False,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Replace all replicas of a deployment: a canary first, the rest if it serves as well as the old ones.

    A changed file is rolled out by itself: this is for engines or weights that are others now under the same
    name. 'status' shows how far a rollout is, whoever began it; 'undo' takes it back, also when it is over.
    """
    if every and deployment is not None and deployment in tuple(Action):
        action, deployment = Action(deployment), None
    if every == (deployment is not None):
        raise ConfigError(
            "Name a deployment, or say --all: inferry rollout chat, inferry rollout --all status."
        )
    client = client_of(port)
    if action is Action.STATUS:
        _show_status(client, deployment, as_json)
        return
    for name in [deployment] if deployment is not None else _names(client, action):
        is_meant = by_hand("rollout", name) if action is Action.START else of_deployment(name)
        with showing_steps(client, is_meant, as_json):
            done = client.rollout(name) if action is Action.START else client.undo(name)
        show(done, as_json)


def _names(client: LifecycleClient, action: Action) -> list[str]:
    """Those for --all: to roll out, what we run ourselves; to undo, what is under way."""
    if action is Action.UNDO:
        names = [each.deployment for each in client.rollouts() if each.ended is None]
        if not names:
            raise ConfigError("No rollout is under way. To undo one that is over, name its deployment.")
        return names
    return [each.name for each in client.status().deployments if each.engine != "openai"]


def _show_status(client: LifecycleClient, deployment: str | None, as_json: bool) -> None:
    found = client.rollouts()
    if deployment is not None:
        if deployment not in (known := [each.name for each in client.status().deployments]):
            raise ConfigError(f"There is no deployment '{deployment}'.{did_you_mean(deployment, known)}")
        found = [each for each in found if each.deployment == deployment]
    if as_json:
        typer.echo("[" + ",".join(each.model_dump_json() for each in found) + "]")
        return
    if not found:
        typer.echo("No rollout since this start.")
    for line in _lines(found):
        typer.echo(line)


def _lines(found: Sequence[RolloutView]) -> list[str]:
    lines: list[str] = []
    now_s = SystemClock().wall_s()
    for each in found:
        since = f"{(each.ended or now_s) - each.began:.0f} s"
        took = f"took {since}" if each.ended is not None else f"for {since}"
        lines.append(
            f"{each.deployment}: {phase_in_words(each.phase)}, {each.replaced} of {each.total} new, {took} ({each.reason})"
        )
        if each.new:
            lines.append(f"  new: {', '.join(each.new)}")
        lines += [f"  {line}" for line in each.because.splitlines()]
    return lines
