"""The simulated engine's figures, as a Prometheus page with vLLM's names, labels and buckets."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Protocol

from inferry.testing.simulated_lateness import Lateness

_TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
_ITL_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_E2E_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
)  # fmt: skip
FINISH_REASONS = ("stop", "length", "abort", "error")


class Histogram:
    """Counts of seconds per bucket, cumulated only when the page is read."""

    __slots__ = ("bounds", "counts", "total_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_s += seconds


@dataclass(slots=True)
class Figures:
    """Counters since the start of the process."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FINISH_REASONS, 0))
    ttft: Histogram = field(default_factory=lambda: Histogram(_TTFT_BUCKETS))
    itl: Histogram = field(default_factory=lambda: Histogram(_ITL_BUCKETS))
    e2e: Histogram = field(default_factory=lambda: Histogram(_E2E_BUCKETS))


class BatchFigures(Protocol):
    """What the batch tells of itself now."""

    @property
    def lateness(self) -> Lateness: ...

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...

    @property
    def preemptions(self) -> int: ...

    def kv_use(self) -> float: ...

    def busy_s(self) -> float: ...

    def busy_share(self) -> float: ...


def metrics_page(figures: Figures, batch: BatchFigures, *, model: str, context_tokens: int) -> bytes:
    """The page in Prometheus' text format."""
    labels = f'engine="0",model_name="{_escape(model)}"'
    lines: list[str] = ["# The figures of a simulated engine: no model, no GPU."]

    def family(name: str, kind: str, text: str, samples: list[tuple[str, str, float]]) -> None:
        name = name if ":" in name else f"vllm:{name}"
        lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
        for suffix, more, value in samples:
            lines.append(f"{name}{suffix}{{{labels}{more}}} {value!r}")

    def gauge(name: str, text: str, value: float) -> None:
        family(name, "gauge", text, [("", "", float(value))])

    def counter(name: str, text: str, value: float) -> None:
        family(f"{name}_total", "counter", text, [("", "", float(value))])

    def histogram(name: str, text: str, figure: Histogram) -> None:
        seen = 0
        samples: list[tuple[str, str, float]] = []
        for bound, count in zip((*figure.bounds, float("inf")), figure.counts, strict=True):
            seen += count
            le = "+Inf" if bound == float("inf") else repr(float(bound))
            samples.append(("_bucket", f',le="{le}"', float(seen)))
        samples += [("_sum", "", figure.total_s), ("_count", "", float(seen))]
        family(name, "histogram", text, samples)

    gauge("num_requests_running", "Number of requests in model execution batches.", batch.running)
    gauge("num_requests_waiting", "Number of requests waiting to be processed.", batch.waiting)
    gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", batch.kv_use())
    counter("prefix_cache_queries", "Tokens looked up in the prefix cache.", figures.prompt_tokens)
    counter("prefix_cache_hits", "Tokens found in the prefix cache.", figures.cached_tokens)
    counter("prompt_tokens", "Number of prefill tokens processed.", figures.prompt_tokens)
    counter("prompt_tokens_cached", "Number of prompt tokens from the cache.", figures.cached_tokens)
    counter("generation_tokens", "Number of generation tokens processed.", figures.generated_tokens)
    counter("num_preemptions", "Requests that lost their blocks and were computed anew.", batch.preemptions)
    family(
        "request_success_total",
        "counter",
        "Count of finished requests.",
        [("", f',finished_reason="{reason}"', float(count)) for reason, count in figures.finished.items()],
    )
    histogram("time_to_first_token_seconds", "Time to first token in seconds.", figures.ttft)
    histogram("inter_token_latency_seconds", "Time between two tokens in seconds.", figures.itl)
    histogram("e2e_request_latency_seconds", "End to end request latency in seconds.", figures.e2e)
    family(
        "cache_config_info",
        "gauge",
        "Information of the KV-cache.",
        [("", f',block_size="16",max_model_len="{context_tokens}"', 1.0)],
    )
    late = batch.lateness
    gauge(
        "simulated:gpu_use",
        "Share of the last second in which the model computed; no GPU.",
        batch.busy_share(),
    )
    counter("simulated:busy_seconds", "Seconds in which the model computed.", batch.busy_s())
    counter("simulated:steps", "Steps that the model took.", late.steps)
    counter("simulated:late_seconds", "By how much steps were told too late, all together.", late.sum_s)
    gauge("simulated:late_seconds_max", "By how much the latest one was.", late.most_s)
    counter("simulated:given_up_seconds", "Model time that was given up as too late.", late.given_up_s)
    return ("\n".join(lines) + "\n").encode()


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
