"""Applies a changed deployment file to a running instance: checked as a whole, then applied, or nothing at all.

read and check ─► compare ─► fetch models ─► every gateway process gets ready ─► all switch ─► the fleet follows
a failure before the switch changes nothing; if new replicas then are no good, all is put back as it was
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import structlog

from inferry.cli.serving import Serving, make_serving
from inferry.cli.undo import with_deployment_of
from inferry.cli.weights import check_engines, fetch_models
from inferry.core.config_file import LoadedFile, load_file
from inferry.core.deployment import DeploymentFile
from inferry.core.errors import ConfigError, InferryError, LifecycleRefused
from inferry.core.file_change import Effect, compare
from inferry.fleet.memory_need import check_budget
from inferry.fleet.plan import DeploymentPlan
from inferry.gateway.messages import Configuration
from inferry.models.progress import SilentProgress

log = structlog.get_logger()

WATCH_S = 1.0
UNDO_HOLDS = "This holds until the file changes or is reloaded."
Stamp = tuple[int, int, int]
"""Tells one version of a file from another."""


class Gateways(Protocol):
    async def configure(self, configuration: Configuration) -> None: ...


class Fleet(Protocol):
    async def apply(self, plans: tuple[DeploymentPlan, ...], drain_s: float) -> dict[str, str]: ...

    def failures(self) -> list[str]: ...

    def scaled(self, plans: tuple[DeploymentPlan, ...]) -> list[DeploymentPlan]: ...


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload did."""

    generation: int
    changes: list[str]
    """Lines for people."""
    by_watcher: bool = False
    """It was done when the file was saved, before anybody asked."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The last time that the file was read."""

    stamp: Stamp | None
    number: int
    outcome: Reloaded | InferryError

    @property
    def applied_by_watcher(self) -> bool:
        return isinstance(self.outcome, Reloaded) and self.outcome.by_watcher and bool(self.outcome.changes)

    def result(self) -> Reloaded:
        if isinstance(self.outcome, InferryError):
            raise self.outcome
        return self.outcome


class Reloader:
    """Owns which generation of the file is in force. One change at a time."""

    def __init__(
        self,
        loaded: LoadedFile,
        serving: Serving,
        *,
        gateways: Gateways,
        fleet: Fleet,
        home: Path,
        environ: Mapping[str, str],
        prepare: Callable[[DeploymentFile], Awaitable[None]],
    ) -> None:
        """`prepare`: what else must be ready before the gateways switch; may raise ConfigError."""
        self.loaded = loaded
        self.serving = serving
        self._last_generation = serving.generation
        """Also of what was taken back: a number is never used for two files."""
        self._gateways = gateways
        self._fleet = fleet
        self._home = home
        self._environ = environ
        self._prepare = prepare
        self._changing = asyncio.Lock()
        self._before_rollout: dict[str, LoadedFile] = {}
        """By deployment: what was in force before its engines were replaced last."""
        self._seen = self._stamp()
        self._last = _Attempt(self._seen, 0, Reloaded(serving.generation, []))
        self.not_in_force: str | None = None
        """Why the file as it is on disk is not what runs; None: it is, as far as is known."""

    async def reload(self) -> Reloaded:
        """Read the file again and apply it. Returns when the fleet runs as it says.

        A version that somebody else is at when this is called is not tried twice: the outcome is that one's. Raises
        ConfigError that says why; then all is as it was, with the same generation.
        """
        number = self._last.number
        async with self._changing:
            last = self._last
            is_same = last.stamp is not None and last.stamp == self._stamp()
            if is_same and last.number > number:
                return last.result()
            done = await self._try()
            return last.result() if is_same and last.applied_by_watcher and not done.changes else done

    async def _try(self, *, by_watcher: bool = False) -> Reloaded:
        """The file as it is now."""
        stamp = self._seen = self._stamp()
        try:
            loaded = await asyncio.to_thread(load_file, self.loaded.path, self._environ)
            done = replace(await self._apply(loaded), by_watcher=by_watcher)
        except InferryError as error:
            self._last = _Attempt(stamp, self._last.number + 1, error)
            self.not_in_force = error.message
            raise
        except Exception as fault:
            # Only its kind: its words may hold what came from the environment.
            self.not_in_force = f"a fault in Inferry ({type(fault).__name__}): the log says where"
            raise
        self._last = _Attempt(stamp, self._last.number + 1, done)
        self.not_in_force = None
        return done

    async def undo(self, name: str) -> Reloaded:
        """Have deployment `name` as it was before its engines were replaced last, until the file changes or is
        read again. Raises LifecycleRefused if they never were, and ConfigError as `reload`."""
        async with self._changing:
            before = self._before_rollout.get(name)
            if before is None or name not in self.loaded.config.deployments:
                raise LifecycleRefused(
                    f"Nothing to undo: no change of '{name}' has replaced its engines since this start."
                )
            try:
                loaded = with_deployment_of(self.loaded, before, name)
            except ValueError as error:
                raise LifecycleRefused(f"'{name}' can't be as it was beside the others: {error}.") from error
            done = await self._apply(loaded)
            self._last = _Attempt(None, self._last.number + 1, done)
            if await self._is_what_file_says():
                self.not_in_force = None
                return done
            self.not_in_force = f"The rollout of '{name}' was undone by hand. {UNDO_HOLDS}"
            note = f"{self.loaded.path.name} still says otherwise: change it there, too. {UNDO_HOLDS}"
            return replace(done, changes=[*done.changes, note])

    async def _is_what_file_says(self) -> bool:
        try:
            on_disk = await asyncio.to_thread(load_file, self.loaded.path, self._environ)
        except InferryError:
            return False
        return compare(self.loaded, on_disk).is_empty

    async def watch_forever(self, say: Callable[[str], None]) -> None:
        """Reload whenever the file has changed and has been left alone since the last look."""
        last = self._seen
        while True:
            await asyncio.sleep(WATCH_S)
            now = self._stamp()
            if now is not None and now == last and now != self._seen:
                await self._reload_and_say(say)
            last = now

    async def _reload_and_say(self, say: Callable[[str], None]) -> None:
        name = self.loaded.path.name
        try:
            async with self._changing:
                if self._stamp() == self._seen:  # somebody has typed reload meanwhile
                    return
                done = await self._try(by_watcher=True)
        except InferryError as error:
            log.error("reload_refused", error=error.message)
            say(f"{name} has changed, but can't be applied; everything goes on as before:\n{error.message}")
            return
        except Exception:  # whatever it is, it must not end what runs
            log.exception("reload_broke")
            say(f"{name} has changed, but can't be applied: {self.not_in_force}")
            return
        if done.changes:
            say(f"{name} has changed and is applied (generation {done.generation}):")
            for line in done.changes:
                say(f"  {line}")

    async def _apply(self, loaded: LoadedFile) -> Reloaded:
        change = compare(self.loaded, loaded)
        if (refusal := change.refusal()) is not None:
            raise refusal
        if change.is_empty:
            self.loaded = loaded
            return Reloaded(self.serving.generation, [])
        before, loaded_before = self.serving, self.loaded
        serving = await self._make_serving(loaded)
        await self._prepare(loaded.config)
        await self._gateways.configure(serving.for_gateway)
        self._last_generation = serving.generation
        self.serving, self.loaded = serving, loaded
        reasons = await self._fleet.apply(serving.plans, serving.config.gateway.drain_s)
        reasons |= self._dead_among(set(serving.config.deployments) - set(before.config.deployments))
        if reasons:
            self.loaded = loaded_before
            await self._put_back(before)
            raise _put_back_because(reasons)
        for each in change.deployments:
            if each.effect is Effect.NEW_ENGINES:
                self._before_rollout[each.name] = loaded_before
        changes = change.summary()
        log.info("reloaded", generation=self.serving.generation, changes=changes)
        return Reloaded(self.serving.generation, changes)

    def _dead_among(self, added: set[str]) -> dict[str, str]:
        """Of new deployments, those with a replica that was given up already, and why."""
        failures = [failure.partition(": ") for failure in self._fleet.failures()]
        by_name = {replica_id.rpartition("-")[0]: f"{replica_id}: {why}" for replica_id, _, why in failures}
        return {name: why for name, why in by_name.items() if name in added}

    async def _make_serving(self, loaded: LoadedFile) -> Serving:
        await asyncio.to_thread(check_engines, loaded.config, self._environ)
        paths = await asyncio.to_thread(
            fetch_models, loaded.config, self._home, self._environ, SilentProgress()
        )
        serving = await asyncio.to_thread(make_serving, loaded.config, paths, self._last_generation + 1)
        self._check_scaled(serving)
        return serving

    def _check_scaled(self, serving: Serving) -> None:
        """The file fits in its memory budget; so must what runs, where numbers by hand hold beside it."""
        scaled = {plan.name: plan for plan in self._fleet.scaled(serving.plans)}
        try:
            check_budget(serving.config.host.memory_budget, scaled)
        except ConfigError as error:
            raise ConfigError(
                f"{error.message} Numbers of replicas by hand count: see inferry status."
            ) from error

    async def _put_back(self, before: Serving) -> None:
        """What was in force, again. The gateways first: they must know a deployment before its replicas."""
        tried = self.serving
        await self._gateways.configure(before.for_gateway)
        self.serving = before
        stuck = await self._fleet.apply(before.plans, before.config.gateway.drain_s)
        if not stuck:
            return
        # Some run the new engines already, and the old ones do not start again: keep what runs.
        log.error("reload_put_back_in_part", deployments=stuck)
        plans = {plan.name: plan for plan in tried.plans}
        specs = {spec.name: spec for spec in tried.served}
        deployments = {
            name: tried.config.deployments[name] if name in stuck else deployment
            for name, deployment in before.config.deployments.items()
        }
        self._last_generation += 1
        self.serving = Serving(
            self._last_generation,
            before.config.model_copy(update={"deployments": deployments}),
            tuple(plans[plan.name] if plan.name in stuck else plan for plan in before.plans),
            tuple(specs[spec.name] if spec.name in stuck else spec for spec in before.served),
        )
        await self._gateways.configure(self.serving.for_gateway)

    def _stamp(self) -> Stamp | None:
        try:
            found = self.loaded.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _put_back_because(reasons: Mapping[str, str]) -> ConfigError:
    lines = "\n".join(f"  deployments.{name}: {why}" for name, why in reasons.items())
    return ConfigError(f"Everything was put back as it was, because new replicas were no good:\n{lines}")
