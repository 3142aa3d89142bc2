"""The simulated engine's figures, as a Prometheus page with vLLM's names, labels and buckets."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

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


def metrics_page(
    figures: Figures, *, model: str, running: int, waiting: int, kv_use: float, context_tokens: int
) -> bytes:
    """The page in Prometheus' text format. `kv_use` is 0 to 1."""
    labels = f'engine="0",model_name="{_escape(model)}"'
    lines: list[str] = ["# The figures of a simulated engine: no model, no GPU."]

    def family(name: str, kind: str, text: str, samples: list[tuple[str, str, float]]) -> None:
        lines.extend((f"# HELP vllm:{name} {text}", f"# TYPE vllm:{name} {kind}"))
        for suffix, more, value in samples:
            lines.append(f"vllm:{name}{suffix}{{{labels}{more}}} {value!r}")

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

    gauge("num_requests_running", "Number of requests in model execution batches.", running)
    gauge("num_requests_waiting", "Number of requests waiting to be processed.", waiting)
    gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", kv_use)
    counter("prefix_cache_queries", "Tokens looked up in the prefix cache.", figures.prompt_tokens)
    counter("prefix_cache_hits", "Tokens found in the prefix cache.", figures.cached_tokens)
    counter("prompt_tokens", "Number of prefill tokens processed.", figures.prompt_tokens)
    counter("prompt_tokens_cached", "Number of prompt tokens from the cache.", figures.cached_tokens)
    counter("generation_tokens", "Number of generation tokens processed.", figures.generated_tokens)
    counter("num_preemptions", "Number of preemptions; the simulated engine never preempts.", 0)
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
    return ("\n".join(lines) + "\n").encode()


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
