"""The adapter of the simulated engine."""

from __future__ import annotations

from inferry.core.local_engines import SimulatedDeployment
from inferry.engines.adapter import LaunchContext, Verdict
from inferry.engines.simulated import SimulatedAdapter


def adapter(faults: bool = False) -> SimulatedAdapter:
    return SimulatedAdapter("sim", SimulatedDeployment(engine="simulated", faults=faults, ttft_ms=12.5))


def test_launch_spec() -> None:
    """Timing and sizes are flags, the key is in the environment, and faults only come when asked for."""
    context = LaunchContext("sim-0", "127.0.0.1", 8123, None, "sim", 1, "k3y")
    spec = adapter().launch(context, {})
    assert spec.argv[3] == "inferry.testing.simulated_engine"
    assert spec.argv[spec.argv.index("--ttft-ms") + 1] == "12.5"
    assert "--faults" not in spec.argv
    assert "--faults" in adapter(faults=True).launch(context, {}).argv
    assert spec.env == {"INFERRY_ENGINE_KEY": "k3y"}
    assert "k3y" not in " ".join(spec.argv)


def test_it_says_that_it_is_simulated() -> None:
    """Nobody may take its figures for an engine's."""
    assert adapter().simulated
    assert adapter().engine == "simulated"


def test_vllm_names_are_read() -> None:
    """It speaks vLLM's metric names."""
    page = (
        'simulated:gpu_use 0.75\nvllm:num_preemptions_total{engine="0"} 4\n'
        'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_waiting{engine="0"} 1\n'
        'vllm:generation_tokens_total{engine="0"} 99\nvllm:prompt_tokens_total{engine="0"} 7\nvllm:kv_cache_usage_perc{engine="0"} 0.25\n'
    )
    metrics = adapter().read_metrics(page)
    assert (metrics.running, metrics.waiting) == (2, 1)
    assert (metrics.gpu_use, metrics.preemptions) == (0.75, 4)
    assert (metrics.tokens_generated, metrics.tokens_prompt, metrics.kv_cache_use) == (99, 7, 0.25)
    assert adapter().read_probe(200, b"").verdict is Verdict.READY
    assert adapter().read_probe(503, b"").verdict is Verdict.UNWELL
