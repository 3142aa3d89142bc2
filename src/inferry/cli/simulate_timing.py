"""How fast each deployment of a file is in a simulation: told by a file, else its own settings (a simulated engine), else the
planner's law of its GPUs, else what was calibrated of this machine's CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from inferry.cli.simulate_load_words import BLOCK_TOKENS
from inferry.cli.simulate_timing_file import read_timing
from inferry.core.config_file import LoadedFile
from inferry.core.deployment import Deployment, ManagedDeployment
from inferry.core.errors import ConfigError
from inferry.core.local_engines import LlamaCppDeployment, SimulatedDeployment
from inferry.core.model_ref import ModelSource, parse_model_ref
from inferry.fleet.scaler_budget import gpus_of
from inferry.planner.architecture import Architecture
from inferry.planner.device import Device
from inferry.planner.facts.own_facts import OwnFacts
from inferry.planner.setup import Setup
from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_from_plan import NoRoom, timing_from_host, timing_from_plan
from inferry.simulate.timing_known import KnownTiming
from inferry.simulate.timing_of_simulated import timing_of_simulated

START_S = 120.0
"""Of a replica, where none was seen to start: what `scaling.start_s` says of it."""
SIMULATED_START_S = 1.0
"""Of a simulated engine: about what its process takes."""
_WAY_OUT = "or say it by hand: --timing FILE (docs/simulate.md)"


@dataclass(frozen=True, slots=True)
class TimingWish:
    """What the command line says of it."""

    gpu: str | None = None
    """As `inferry plan --gpu`: h100-80g."""
    file: Path | None = None
    block_tokens: int | None = None
    """Of the load's shared beginnings, where it has any."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Of one loaded file."""

    loaded: LoadedFile
    wish: TimingWish
    environ: Mapping[str, str]

    def of(self, name: str) -> KnownTiming:
        """Raises ConfigError where nobody knows, with the way out."""
        deployment = self.loaded.config.deployments[name]
        known = self._of(name, deployment)
        start_s = _told_start_s(deployment)
        timing = self._with_blocks(name, known)
        return replace(known, timing=timing if start_s is None else replace(timing, start_s=start_s))

    def _with_blocks(self, name: str, known: KnownTiming) -> EngineTiming:
        """In blocks as the load's, since hits are counted by them."""
        told, asked = known.timing.block_tokens, self.wish.block_tokens
        if "block_tokens" not in known.said:
            told = asked or BLOCK_TOKENS
        elif asked is not None and asked != told:
            raise ConfigError(
                f"--timing: {name}: block_tokens is {told}, and what the load's prompts share is told in blocks of {asked}: leave "
                f"block_tokens out, or write {asked}."
            )
        timing = replace(known.timing, block_tokens=told)
        if timing.kv_tokens < told:
            raise ConfigError(
                f"deployments.{name}: a KV cache of {timing.kv_tokens} tokens has no block of {told} (kv_tokens, block_tokens): "
                f"say at least {told} kv_tokens."
            )
        return timing

    def _of(self, name: str, deployment: Deployment) -> KnownTiming:
        if self.wish.file is not None and (told := read_timing(self.wish.file, name)) is not None:
            return replace(
                told,
                timing=_with_context(told.timing, deployment),
                gpus=told.gpus if "gpus" in told.said else gpus_of(deployment),
            )
        if isinstance(deployment, SimulatedDeployment):
            return _of_simulated(deployment)
        if not isinstance(deployment, ManagedDeployment):
            raise ConfigError(
                f"deployments.{name}: engine '{deployment.engine}' is somebody else's, and nothing is known of its speed. "
                "Say it by hand: --timing FILE (docs/simulate.md)."
            )
        device = self._device(name)
        if device is not None:
            return self._on_gpu(name, deployment, device)
        return self._on_cpu(name, deployment)

    # --- where it runs --------------------------------------------------------------------------------

    def _device(self, name: str) -> Device | None:
        """None: this machine's CPU."""
        from inferry.cli.hardware_here import device_list, machine_here, unknown_gpus

        own = self._own()
        if self.wish.gpu is not None:
            return own.find_device(self.wish.gpu)
        machine = machine_here(self.environ)
        found = [each for each in device_list(machine, own.devices) if each.kind != "cpu"]
        if found:
            return found[0]
        if unknown := unknown_gpus(machine, own.devices):
            raise ConfigError(
                f"deployments.{name}: the planner does not know this machine's {unknown[0]}. Name a GPU like it (--gpu "
                f"rtx4090), {_WAY_OUT}."
            )
        return None

    def _own(self) -> OwnFacts:
        from inferry.cli.facts_file import read_own_facts

        return read_own_facts(self.loaded.path, self.environ)

    def _on_gpu(self, name: str, deployment: ManagedDeployment, device: Device) -> KnownTiming:
        from inferry.core.home import inferry_home
        from inferry.fleet.launch_journal import read_launches
        from inferry.planner.learned_physics import subject_of
        from inferry.planner.learning import learn
        from inferry.planner.performance import predict
        from inferry.planner.start_time import start_rate
        from inferry.planner.weights import weight_bytes

        arch = self._architecture(name, deployment)
        setup = _setup(deployment, arch)
        if setup is None:
            raise ConfigError(
                f"deployments.{name}: the planner has no words for all that it says (engine '{deployment.engine}', adapters, "
                "speculative decoding, arguments of your own), so its speed is not known. Simulate it without them: --set "
                f"deployments.{name}.KEY=..., {_WAY_OUT}."
            )
        launches = read_launches(inferry_home(self.environ))
        rate = start_rate(launches, setup.engine, device.name, arch.name)
        start_s = None if rate is None else rate.start_s(weight_bytes(arch, setup))
        try:
            known = timing_from_plan(
                arch,
                device,
                setup,
                learned=learn(launches, subject_of(arch, device, setup)),
                start_s=start_s or START_S,
            )
        except NoRoom:
            raise ConfigError(
                f"deployments.{name}: {arch.name} does not fit on {setup.devices} x {device.name}: see 'inferry plan "
                f"{arch.name} --gpu {device.name}', {_WAY_OUT}."
            ) from None
        if start_s is None and _told_start_s(deployment) is None:
            known = replace(known, doubts=(*known.doubts, _assumed_start()))
        return replace(known, performance=lambda load: predict(arch, device, setup, load))

    def _architecture(self, name: str, deployment: ManagedDeployment) -> Architecture:
        """Of the file's own facts, then of those that ship, then of what is here; a hub is asked last."""
        from inferry.cli.plan_model import planned_model
        from inferry.planner.facts.model_catalog import find_model

        own, text = self._own(), deployment.model
        told = own.find_model(text.removeprefix("hf:"))
        if told is not None:
            return told
        try:
            ref = parse_model_ref(text)
            if ref.source is ModelSource.HF and ref.file is None:
                return find_model(ref.name)
        except (ValueError, ConfigError):
            pass
        try:
            return planned_model(text, own, self.environ).architecture
        except ConfigError as error:
            raise ConfigError(
                f"deployments.{name}.model: {error.message} Describe it under 'facts:', {_WAY_OUT}."
            ) from error

    def _on_cpu(self, name: str, deployment: ManagedDeployment) -> KnownTiming:
        from inferry.cli.hardware_here import machine_here
        from inferry.cli.local_model import read_local_model
        from inferry.cli.model_facts import model_path
        from inferry.planner.host_speed import OTHER, OWN, host_model, predict_on_host

        engine = deployment.engine
        if engine not in ("llamacpp", "vllm"):
            raise ConfigError(
                f"deployments.{name}: this machine has no GPU, and of '{engine}' on a CPU nothing is known. Name a GPU (--gpu "
                f"h100-80g), {_WAY_OUT}."
            )
        path = model_path(deployment.model, self.environ)
        if path is None or not path.exists():
            raise ConfigError(
                f"deployments.{name}.model: {deployment.model} is not here, and this machine has no GPU. Fetch it ('inferry "
                f"models pull'), name a GPU (--gpu h100-80g), {_WAY_OUT}."
            )
        local = read_local_model(path)
        calibration = machine_here(self.environ).calibration
        known = None if calibration is None else calibration.engine(engine, local.format, local.arch.name)
        if known is None:
            raise ConfigError(
                f"deployments.{name}: nobody measured how fast {engine} is on this CPU with {local.format}: 'inferry calibrate' "
                f"does that, a minute long; or name a GPU (--gpu h100-80g), {_WAY_OUT}."
            )
        own = known.model == local.arch.name
        shape, speed = host_model(local.arch, local.weights_bytes), known.speed
        slots = getattr(deployment, "parallel", None) or 256
        found = timing_from_host(
            shape,
            speed,
            says=f"this machine's calibration of {engine} with {known.model}"
            + ("" if own else f", for {local.arch.name}"),
            spreads=OWN if own else OTHER,
            slots=slots,
            context_tokens=getattr(deployment, "context_tokens", None) or local.arch.max_position or 4096,
            start_s=START_S,
        )
        if _told_start_s(deployment) is None:
            found = replace(found, doubts=(*found.doubts, _assumed_start()))
        return replace(found, performance=lambda load: predict_on_host(shape, speed, load, slots=slots))


def _with_context(timing: EngineTiming, deployment: Deployment) -> EngineTiming:
    """Where nobody who measured it said how long prompts may be, the deployment may."""
    if timing.context_tokens is not None:
        return timing
    return replace(timing, context_tokens=getattr(deployment, "context_tokens", None))


def _of_simulated(deployment: SimulatedDeployment) -> KnownTiming:
    """As the engine itself takes its options."""
    timing = timing_of_simulated(
        context_tokens=deployment.context_tokens,
        parallel=deployment.parallel,
        ttft_s=deployment.ttft_ms / 1e3,
        itl_s=deployment.itl_ms / 1e3,
        step_s_per_sequence=deployment.step_ms_per_sequence / 1e3,
        prefill_tokens_per_s=deployment.prefill_tokens_per_s,
        step_tokens_max=deployment.step_tokens_max,
        kv_tokens=deployment.kv_tokens,
        start_s=SIMULATED_START_S + deployment.start_s,
    )
    return KnownTiming(timing, "settings", "the simulated engine's own settings (ttft_ms, itl_ms, parallel)")


def _setup(deployment: ManagedDeployment, arch: Architecture) -> Setup | None:
    from inferry.cli.launch_setup import setup_of

    if isinstance(deployment, LlamaCppDeployment):
        return Setup(
            "llamacpp",
            weights="gguf",
            kv="fp16",
            max_model_tokens=deployment.context_tokens,
            max_sequences=deployment.parallel,
        )
    return setup_of(deployment, arch)


def _told_start_s(deployment: Deployment) -> float | None:
    scaling = getattr(deployment, "scaling", None)
    return None if scaling is None else scaling.start_s


def _assumed_start() -> str:
    return f"no start of it was seen here: {START_S:g} s are assumed; say it in scaling.start_s"


def timings_here(loaded: LoadedFile, wish: TimingWish) -> Timings:
    return Timings(loaded, wish, os.environ)
