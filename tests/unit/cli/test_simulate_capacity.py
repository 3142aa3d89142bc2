"""A simulated deployment with an SLO hears what one replica carries when production would hear it, from the same source."""

from __future__ import annotations

from pathlib import Path

from inferry.cli.scaling_capacity import ENDED_MIN, planned_capacity
from inferry.cli.simulate_capacity import PlannedAutoscaler
from inferry.cli.simulate_timing import Timings, TimingWish
from inferry.core.config_file import load_file
from inferry.core.deployment_base import ManagedBase
from inferry.policy.scaling.observation import Observation, ReplicaReading, Traffic

FILE = """\
deployments:
  chat:
    engine: vllm
    model: hf:meta-llama/Llama-3.1-8B-Instruct
    context_tokens: 8192
    scaling: {max: 40, slo: {ttft_ms: 2000, itl_ms: 100}}
"""
PROMPT, OUTPUT = 800, 200


def _look(number: int, ended: int) -> Observation:
    traffic = Traffic(
        arrived=ended + 5,
        ended=ended,
        prompt_tokens=PROMPT * ended,
        output_tokens=OUTPUT * ended,
        in_flight=5,
    )
    return Observation(10.0 * number, 1, (ReplicaReading("chat-0", 10.0 * number),), traffic=traffic)


def test_the_planners_figure_comes_once_enough_requests_have_ended(tmp_path: Path) -> None:
    """Before that, nobody knows what a replica carries; after it, the slo wish names the planner and its very figure."""
    path = tmp_path / "inferry.yaml"
    path.write_text(FILE)
    timings = Timings(load_file(path, {}), TimingWish("h100-80g"), {"INFERRY_HOME": str(tmp_path)})
    deployment = timings.loaded.config.deployments["chat"]
    assert isinstance(deployment, ManagedBase)
    scaling, performance = deployment.scaling, timings.of("chat").performance
    assert scaling is not None
    assert scaling.slo is not None
    assert performance is not None
    decider = PlannedAutoscaler(scaling, 1, performance)
    early = [decider.decide(_look(number, ENDED_MIN - 1)) for number in range(3)]
    late = [decider.decide(_look(3 + number, ENDED_MIN + 20 * number)) for number in range(3)]
    planned = planned_capacity(performance, scaling.slo, _look(0, ENDED_MIN).traffic or Traffic())
    assert planned is not None
    assert not any("planner" in wish.because for each in early for wish in each.wishes)
    assert [wish.rule for wish in late[-1].wishes if "(planner" in wish.because] == ["slo"]
    told = late[-1].inputs["replica_requests_per_s"]
    assert told is not None
    assert abs(told / planned.requests_per_s - 1) < 0.1  # what is seen may have moved it a little
