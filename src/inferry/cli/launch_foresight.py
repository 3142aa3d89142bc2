"""What the planner says of a deployment on this machine, before it starts and beside what it then does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inferry.cli.calibrate_machine import fingerprint
from inferry.cli.local_model import LocalModel, read_local_model
from inferry.cli.serving import Serving
from inferry.core.clock import Clock
from inferry.core.errors import ConfigError
from inferry.core.local_engines import LlamaCppDeployment
from inferry.core.server_engines import VllmDeployment
from inferry.fleet.calibration_file import read_calibration
from inferry.fleet.fleet import Fleet
from inferry.fleet.launch_journal import read_launches
from inferry.fleet.launch_notes import Foresight, LaunchNotes
from inferry.fleet.plan import DeploymentPlan
from inferry.planner.calibration import Fingerprint
from inferry.planner.host_memory import host_memory_bytes
from inferry.planner.host_speed import host_model, predict_on_host
from inferry.planner.learning import Corrections, Subject, learn
from inferry.planner.load import Load
from inferry.runtime.process_memory import memory_by_group

ANSWER_TOKENS = 128.0
"""Counters tell how many tokens were read for each that was written, not how long answers are."""


@dataclass(frozen=True, slots=True)
class Foreseer:
    """Foresees on this machine. `host` is read once: it does not change while we run."""

    home: Path
    host: Fingerprint

    def foresee(self, plan: DeploymentPlan) -> Foresight | None:
        """None for engines and models that the planner knows nothing of. Reads files; call it in a thread."""
        if plan.model_path is None:
            return None
        deployment = plan.deployment
        on_cpu = isinstance(deployment, LlamaCppDeployment) and not deployment.gpu_layers
        on_cpu = on_cpu or (isinstance(deployment, VllmDeployment) and not self.host.gpus)
        if not on_cpu:
            return None
        try:
            model = read_local_model(plan.model_path)
        except ConfigError:
            return None
        return self._on_cpu(plan, model)

    def _on_cpu(self, plan: DeploymentPlan, model: LocalModel) -> Foresight:
        deployment, engine = plan.deployment, plan.deployment.engine
        calibration = read_calibration(self.home, self.host)
        known = None if calibration is None else calibration.engine(engine, model.format, model.arch.name)
        slots = getattr(deployment, "parallel", None) or 256
        context = getattr(deployment, "context_tokens", None) or model.arch.max_position
        predicted: dict[str, float] = {}
        space_bytes = _kv_space_bytes(deployment)
        if engine == "llamacpp" or space_bytes is not None:
            predicted["memory_bytes"] = float(
                host_memory_bytes(
                    engine, model.arch, model.weights_bytes, model.format,
                    kv_tokens=slots * context, kv_space_bytes=space_bytes or 0,
                    base=None if known is None else known.memory_base_bytes,
                )
            )  # fmt: skip
        if engine == "llamacpp":
            predicted["kv_tokens"] = float(slots * context)
        version = getattr(deployment, "version", None)
        subject = Subject(engine, self.host.cpu, model.arch.name, _family(model), version, model.format)
        corrections = learn(read_launches(self.home), subject)

        def itl_ms(running: float, prompt_share: float) -> float | None:
            if known is None:
                return None
            shape = host_model(model.arch, model.weights_bytes)
            load = Load(ANSWER_TOKENS * prompt_share, ANSWER_TOKENS, concurrency=max(running, 1.0))
            return predict_on_host(shape, known.speed, load, slots=slots).itl_ms.value

        return Foresight(
            device=self.host.cpu,
            model=model.arch.name,
            family=_family(model),
            weights=model.format,
            engine_version=version,
            predicted=predicted,
            expected=corrected(predicted, corrections),
            itl_ms=itl_ms,
        )


def corrected(predicted: Mapping[str, float], corrections: Corrections) -> dict[str, float]:
    return {name: value * corrections.factor(name) for name, value in predicted.items()}


def _kv_space_bytes(deployment: object) -> int | None:
    """VLLM_CPU_KVCACHE_SPACE, in GiB. None where it is not set: by version 4 GiB, or a share of what is free."""
    try:
        return int(float(getattr(deployment, "env", {})["VLLM_CPU_KVCACHE_SPACE"]) * 1024**3)
    except (KeyError, ValueError):
        return None


def _family(model: LocalModel) -> str:
    return str(model.arch.extra.get("family", "")) or model.arch.name.partition("-")[0].lower()


def launch_notes(fleet: Fleet, serving: Callable[[], Serving], home: Path, clock: Clock) -> LaunchNotes:
    """The fleet's notes, on this machine."""

    def foresee(plan: DeploymentPlan) -> Foresight | None:
        # Who this machine is, nvidia-smi tells within seconds: not before something is to be noted.
        return Foreseer(home, fingerprint()).foresee(plan)

    return LaunchNotes(fleet.readings, lambda: serving().plans, foresee, memory_by_group, home, clock)
