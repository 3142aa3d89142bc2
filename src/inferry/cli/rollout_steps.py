"""What a rollout does, line by line, while the verb that began it waits for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from inferry.core.errors import ConfigError

if TYPE_CHECKING:
    from inferry.admin.lifecycle_client import LifecycleClient
    from inferry.admin.rollout_view import RolloutView

LOOK_S = 0.3
END_S = 2.0
"""For a last look."""


@contextmanager
def showing_steps(
    client: LifecycleClient, is_meant: Callable[[RolloutView], bool], as_json: bool
) -> Iterator[None]:
    """Meanwhile, each step of rollouts that begin from now on, and are meant, is printed when it is done.

    Nothing is printed `as_json`: programs read one document.
    """
    if as_json:
        yield
        return
    steps = _Steps(client, is_meant)
    over = threading.Event()
    # A daemon: Ctrl-C ends the waiting at once, also while Inferry does not answer.
    watcher = threading.Thread(target=steps.show_until, args=(over,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(END_S)


def by_hand(verb: str, target: str) -> Callable[[RolloutView], bool]:
    """The rollout that this verb begins."""
    return lambda view: view.reason == f"{verb} of {target} by hand"


def of_deployment(name: str) -> Callable[[RolloutView], bool]:
    """Whoever began it."""
    return lambda view: view.deployment == name


class _Steps:
    def __init__(self, client: LifecycleClient, is_meant: Callable[[RolloutView], bool]) -> None:
        self._client = client
        self._is_meant = is_meant
        self._shown = {_key(view): len(view.steps) for view in client.rollouts()}

    def show_until(self, over: threading.Event) -> None:
        while not over.wait(LOOK_S):
            self._show()
        self._show()

    def _show(self) -> None:
        """What is new. Whether it can't be asked any more is for the verb itself to say."""
        try:
            views = self._client.rollouts()
        except ConfigError:
            return
        for view in filter(self._is_meant, views):
            for step in view.steps[self._shown.get(_key(view), 0) :]:
                typer.echo(f"{view.deployment}: {step}")
            self._shown[_key(view)] = len(view.steps)


def _key(view: RolloutView) -> tuple[str, float]:
    return view.deployment, view.began
