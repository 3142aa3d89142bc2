"""What the planner says of a deployment on this machine, before it starts and beside what it then does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from inferry.cli.calibrate_machine import fingerprint
from inferry.cli.local_model import LocalModel, read_local_model
from inferry.cli.serving import Serving
from inferry.core.clock import Clock
from inferry.core.deployment import Deployment
from inferry.core.errors import ConfigError
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.server_engines import VllmDeployment
from inferry.fleet.calibration_file import read_calibration
from inferry.fleet.fleet import Fleet
from inferry.fleet.launch_journal import read_launches
from inferry.fleet.launch_notes import Foresight, LaunchNotes
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.answers import Performance
from inferry.planner.calibration import Fingerprint
from inferry.planner.facts.device_catalog import known_devices, look_up
from inferry.planner.host_memory import host_memory_bytes
from inferry.planner.host_speed import host_model, predict_on_host
from inferry.planner.learned_physics import family_of
from inferry.planner.learning import Subject, learn
from inferry.planner.load import Load
from inferry.planner.memory import plan_memory
from inferry.planner.performance import predict
from inferry.planner.setup import EngineName, KvFormat, Setup
from inferry.runtime.process_memory import memory_by_group


@dataclass(frozen=True, slots=True)
class _Said:
    """What the planner's parts say, before it is put together."""

    device: str
    predicted: Mapping[str, float]
    speed: Callable[[Load], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Foreseer:
    """Foresees on this machine."""

    home: Path
    host: Fingerprint

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
        subject = Subject(_engine(plan.deployment), said.device, name, family_of(name), version, model.format)
        learned = learn(read_launches(self.home), subject)
        return Foresight(
            engine=subject.engine,
            device=said.device,
            model=name,
            family=subject.family,
            weights=model.format,
            engine_version=version,
            predicted=said.predicted,
            expected={key: value * learned.factor(key) for key, value in said.predicted.items()},
            speed=said.speed,
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

        def speed(load: Load) -> Mapping[str, float]:
            if known is None:
                return {}
            shape = host_model(model.arch, model.weights_bytes)
            return _figures(predict_on_host(shape, known.speed, load, slots=slots))

        return _Said(self.host.cpu, predicted, speed)

    def _on_gpu(self, plan: DeploymentPlan, model: LocalModel) -> _Said | None:
        setup = setup_of(plan.deployment, model)
        device = look_up(self.host.gpus[0], known_devices()) if self.host.gpus else None
        if setup is None or device is None:
            return None
        memory = plan_memory(model.arch, device, setup)
        predicted = {"weights_bytes": float(memory.weights), "kv_tokens": float(memory.kv_tokens)}

        def speed(load: Load) -> Mapping[str, float]:
            return _figures(predict(model.arch, device, setup, load))

        return _Said(device.name, predicted, speed)


def setup_of(deployment: Deployment, model: LocalModel) -> Setup | None:
    """A deployment in the planner's words; None for engines that it has no memory model of."""
    engine = _engine(deployment)
    if engine not in ("vllm", "sglang", "tensorrt_llm"):
        return None
    kv = getattr(deployment, "kv_cache_dtype", None)
    return Setup(
        cast(EngineName, engine),
        getattr(deployment, "version", None),
        weights=model.arch.native_format,
        kv=cast(KvFormat, kv) if kv in get_args(KvFormat) else "bf16",
        tensor_parallel=getattr(deployment, "tensor_parallel", 1),
        pipeline_parallel=getattr(deployment, "pipeline_parallel", 1),
        data_parallel=getattr(deployment, "data_parallel", None) or 1,
        memory_fraction=getattr(deployment, "memory_fraction", None),
        max_model_tokens=getattr(deployment, "context_tokens", None),
        max_sequences=getattr(deployment, "parallel", None),
        max_batched_tokens=getattr(deployment, "batched_tokens", None),
        chunked_prefill=getattr(deployment, "chunked_prefill", None),
    )


def launch_notes(fleet: Fleet, serving: Callable[[], Serving], home: Path, clock: Clock) -> LaunchNotes:
    """The fleet's notes, on this machine."""

    def foresee(plan: DeploymentPlan) -> Foresight | None:
        # Who this machine is, nvidia-smi tells within seconds: not before something is to be noted.
        return Foreseer(home, fingerprint()).foresee(plan)

    return LaunchNotes(fleet.readings, lambda: serving().plans, foresee, memory_by_group, home, clock)


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
