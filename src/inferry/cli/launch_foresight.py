"""What the planner says of a deployment on this machine, before it starts and beside what it then does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inferry.cli.calibrate_machine import fingerprint
from inferry.cli.hardware_gpus import read_gpus
from inferry.cli.hardware_here import gpu_device
from inferry.cli.launch_setup import setup_of
from inferry.cli.local_model import LocalModel, read_local_model
from inferry.cli.serving import Serving
from inferry.core.clock import Clock
from inferry.core.deployment import Deployment, DeploymentFile
from inferry.core.errors import ConfigError
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.server_engines import VllmDeployment
from inferry.fleet.calibration_file import read_calibration
from inferry.fleet.fleet import Fleet
from inferry.fleet.launch_journal import read_launches
from inferry.fleet.launch_notes import Foresight, LaunchNotes
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.answers import MemoryPlan, Performance
from inferry.planner.calibration import Fingerprint
from inferry.planner.device import Device
from inferry.planner.facts.device_catalog import known_devices, look_up
from inferry.planner.facts.own_facts import own_device
from inferry.planner.host_memory import host_memory_bytes
from inferry.planner.host_speed import host_model, predict_on_host
from inferry.planner.learned_physics import corrected_memory, family_of
from inferry.planner.learning import REST, Subject, learn
from inferry.planner.load import Load
from inferry.planner.memory import plan_memory
from inferry.planner.performance import predict
from inferry.planner.start_time import start_rate
from inferry.runtime.process_memory import memory_by_group


@dataclass(frozen=True, slots=True)
class _Said:
    """What the planner's parts say, before it is put together."""

    device: str
    predicted: Mapping[str, float]
    weights: str
    performance: Callable[[Load], Performance] | None
    memory: MemoryPlan | None = None
    """None: on a CPU."""


@dataclass(frozen=True, slots=True)
class Foreseer:
    """Foresees on this machine."""

    home: Path
    host: Fingerprint
    gpus: tuple[Device | None, ...] = ()
    """As plans for this machine have them, in the driver's order; empty: by the names in `host`."""

    def foresee(self, plan: DeploymentPlan) -> Foresight | None:
        """None for engines, models and devices that the planner knows nothing of. Reads files; call it in a thread.

        Raises ConfigError where what was calibrated or learned can't be read.
        """
        if plan.model_path is None:
            return None
        try:
            model = read_local_model(plan.model_path)
        except ConfigError:
            return None
        said = self._on_cpu(plan, model) if self._is_on_cpu(plan.deployment) else self._on_gpu(plan, model)
        if said is None:
            return None
        name, version = _name(plan, model), getattr(plan.deployment, "version", None)
        engine, launches = _engine(plan.deployment), read_launches(self.home)
        setup = None if said.memory is None else said.memory.setup
        learned = learn(
            launches, Subject(engine, said.device, name, family_of(name), version, said.weights, setup)
        )
        expected = {key: value * learned.factor(key) for key, value in said.predicted.items()}
        if said.memory is not None:
            expected = _sizes(corrected_memory(said.memory, learned))
        if rate := start_rate(launches, engine, said.device, name):
            expected["start_s"] = rate.start_s(model.weights_bytes)
        performance = said.performance
        return Foresight(
            engine=engine,
            device=said.device,
            model=name,
            family=family_of(name),
            weights=said.weights,
            engine_version=version,
            setup=setup,
            kv_bytes=0.0 if said.memory is None else float(max(said.memory.kv, 0)),
            copies=1 if setup is None else setup.data_parallel,
            predicted={**said.predicted, "loaded_bytes": float(model.weights_bytes)},
            expected=expected,
            speed=(lambda load: {}) if performance is None else (lambda load: _figures(performance(load))),
            performance=performance,
        )

    def _is_on_cpu(self, deployment: Deployment) -> bool:
        if isinstance(deployment, LlamaCppDeployment):
            return not deployment.gpu_layers and not self.host.gpus
        return isinstance(deployment, VllmDeployment) and not self.host.gpus

    def _on_cpu(self, plan: DeploymentPlan, model: LocalModel) -> _Said:
        deployment, engine = plan.deployment, plan.deployment.engine
        calibration = read_calibration(self.home, self.host)
        known = None if calibration is None else calibration.engine(engine, model.format, model.arch.name)
        slots = getattr(deployment, "parallel", None) or 256
        context = getattr(deployment, "context_tokens", None) or model.arch.max_position
        predicted: dict[str, float] = {}
        space_bytes = _kv_space_bytes(deployment)
        if engine == "llamacpp" or space_bytes is not None:
            held = host_memory_bytes(
                engine,
                model.arch,
                model.weights_bytes,
                copies_bytes=model.copies_bytes,
                kv_tokens=slots * context,
                kv_space_bytes=space_bytes or 0,
                base=None if known is None else known.memory_base_bytes,
            )
            predicted["memory_bytes"] = float(held)
        if engine == "llamacpp":
            predicted["kv_tokens"] = float(slots * context)

        if known is None:
            return _Said(self.host.cpu, predicted, model.format, None)
        calibrated, shape = known.speed, host_model(model.arch, model.weights_bytes)
        return _Said(
            self.host.cpu,
            predicted,
            model.format,
            lambda load: predict_on_host(shape, calibrated, load, slots=slots),
        )

    def _on_gpu(self, plan: DeploymentPlan, model: LocalModel) -> _Said | None:
        setup, device = setup_of(plan.deployment, model.arch), self._device(plan.deployment)
        if setup is None or device is None:
            return None
        memory = plan_memory(model.arch, device, setup)
        return _Said(
            device.name,
            _sizes(memory),
            setup.weights,
            lambda load: predict(model.arch, device, setup, load),
            memory,
        )

    def _device(self, deployment: Deployment) -> Device | None:
        """That which its GPUs are; None where they differ, or nobody knows them."""
        found = self.gpus or tuple(look_up(name, known_devices()) for name in self.host.gpus)
        chosen = getattr(deployment, "gpus", None) or range(len(found))
        kinds = [found[index] for index in chosen if index < len(found)]
        return kinds[0] if kinds and all(each == kinds[0] for each in kinds) else None


def foreseer_here(home: Path, config: DeploymentFile) -> Foreseer:
    """With this machine's GPUs as `inferry plan --here` takes them. Takes seconds: nvidia-smi tells who it is."""
    own = (own_device(name, told) for name, told in config.facts.devices.items())
    known = (*own, *known_devices())
    gpus = tuple(gpu_device(each, known) for each in read_gpus().gpus)
    return Foreseer(home, fingerprint(), gpus)


def launch_notes(fleet: Fleet, serving: Callable[[], Serving], home: Path, clock: Clock) -> LaunchNotes:
    """The fleet's notes, on this machine."""

    foresee = foresee_here(serving, home)
    return LaunchNotes(fleet.readings, lambda: serving().plans, foresee, memory_by_group, home, clock)


def foresee_here(serving: Callable[[], Serving], home: Path) -> Callable[[DeploymentPlan], Foresight | None]:
    """Foresees on this machine, by the file in force; looks at the machine with each call, and not before the first."""
    return lambda plan: foreseer_here(home, serving().config).foresee(plan)


def _sizes(memory: MemoryPlan) -> dict[str, float]:
    found = {"weights_bytes": float(memory.weights), "kv_tokens": float(memory.kv_tokens)}
    return found | {REST: float(memory.budget - memory.kv)} if memory.kv > 0 else found


def _figures(said: Performance) -> dict[str, float]:
    return {
        "ttft_ms": said.ttft_ms.value,
        "itl_ms": said.itl_ms.value,
        "output_tokens_per_s": said.output_tokens_per_s.value,
    }


def _engine(deployment: Deployment) -> str:
    """In the planner's words."""
    return deployment.engine.replace("-", "_")


def _name(plan: DeploymentPlan, model: LocalModel) -> str:
    """A hub's name, under which plans are asked for it too; else that of its files."""
    reference = getattr(plan.deployment, "model", "")
    if isinstance(reference, str) and reference.startswith("hf:"):
        return reference.removeprefix("hf:").partition("@")[0]
    return model.arch.name


def _kv_space_bytes(deployment: Deployment) -> int | None:
    """VLLM_CPU_KVCACHE_SPACE, in GiB. None where it is not set: by version 4 GiB, or a share of what is free."""
    try:
        return int(float(getattr(deployment, "env", {})["VLLM_CPU_KVCACHE_SPACE"]) * 1024**3)
    except (KeyError, ValueError):
        return None
