"""What a run of the bench is: whom it asks, when, for what, and what counts as good enough.

Plans are plain data: they go to the worker processes as JSON, and into the report as they were.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Api = Literal["chat", "completions", "responses", "messages", "tgi", "embeddings"]
"""OpenAI's chat, completions, responses and embeddings; Anthropic's messages; TGI's generate_stream."""


class Target(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is asked."""

    base_url: str
    """With the /v1 of OpenAI's routes, without a slash at its end."""
    model: str
    api: Api = "chat"
    key_variable: str | None = None
    """The environment variable with the API key: the key itself is in no plan."""
    stream: bool = True
    ignore_eos: bool = True
    """Asks engines to go on to the wanted length. transformers and services like OpenAI's own refuse what they don't
    know: False for them."""
    usage_per_chunk: bool = True
    """Asks for `stream_options.continuous_usage_stats`: then tokens are known chunk by chunk. vLLM, SGLang and
    TensorRT-LLM know it, most others pass it over; OpenAI's own service refuses what it does not know."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What chat calls the wanted length: OpenAI's reasoning models take the second only, Ollama and TGI the first."""
    extra: dict[str, object] = {}
    """More fields of every request's body. An object is merged into ours of that name, null takes ours out."""


# --- when ---------------------------------------------------------------------------------------------


class Constant(Struct, frozen=True, tag="constant"):
    """Evenly spaced, `rate` per second."""

    rate: float


class Poisson(Struct, frozen=True, tag="poisson"):
    """Independent of each other, `rate` per second on average."""

    rate: float


class Gamma(Struct, frozen=True, tag="gamma"):
    """Gaps of gamma distribution; `burstiness` is its shape: 1 is Poisson, less comes in bursts, more is smoother."""

    rate: float
    burstiness: float


class Closed(Struct, frozen=True, tag="closed"):
    """`concurrency` users of whom each asks again when answered. Hides queues: the report says so."""

    concurrency: int


class Ramp(Struct, frozen=True, tag="ramp"):
    """Poisson, with a rate that goes evenly from one to the other over the run."""

    from_rate: float
    to_rate: float


class Steps(Struct, frozen=True, tag="steps"):
    """Poisson at one rate after the other: pairs of rate and seconds."""

    steps: tuple[tuple[float, float], ...]


class TraceTimes(Struct, frozen=True, tag="trace"):
    """As the workload's trace has them, `speed` times as fast."""

    speed: float = 1.0


Arrivals = Constant | Poisson | Gamma | Closed | Ramp | Steps | TraceTimes

# --- what ---------------------------------------------------------------------------------------------


class Lengths(Struct, frozen=True, kw_only=True):
    """Tokens: `mean`, and how they spread around it."""

    mean: float
    spread: Literal["fixed", "uniform", "normal", "lognormal"] = "fixed"
    deviation: float = 0.0
    """Standard deviation of normal and lognormal; half the width of uniform; in tokens."""
    least: int = 1
    most: int | None = None


class Synthetic(Struct, frozen=True, tag="synthetic", kw_only=True):
    """Prompts of exact lengths that no cache has seen, but for a part that is shared on purpose."""

    input_tokens: Lengths
    output_tokens: Lengths
    prefix_tokens: int = 0
    """Of the input tokens, those at the beginning, shared by all of a group."""
    prefix_groups: int = 1
    unique: bool = True
    """The run's nonce is in all of it, so that no earlier run has left it in a cache. Without: two runs with one seed
    ask the same."""
    by_ids: bool = False
    """Token ids instead of text, for completions and embeddings: exact with any tokenizer."""


class FromFile(Struct, frozen=True, tag="file", kw_only=True):
    """Prompts from a file: ShareGPT-style JSON, or JSONL with `prompt` or `messages`."""

    path: str
    output_tokens: Lengths | None = None
    """Instead of those the file says."""


class FromTrace(Struct, frozen=True, tag="trace", kw_only=True):
    """Lengths, times and shared beginnings of a recorded trace; text made up."""

    path: str
    format: Literal["mooncake", "burstgpt", "azure"] | None = None
    """None: told by its columns."""
    block_tokens: int = 512
    """That one hash id of a Mooncake trace stands for."""
    tokens_scale: float = 1.0
    by_ids: bool = False
    """Token ids instead of text, for completions and embeddings."""


class Sessions(Struct, frozen=True, tag="sessions", kw_only=True):
    """Conversations: each turn has all that was said before, and comes `think_s` after the last answer."""

    turns: Lengths
    first_tokens: Lengths
    turn_tokens: Lengths
    output_tokens: Lengths
    think_s: float = 1.0
    """On average, exponential."""
    prefix_tokens: int = 0
    """A system prompt that all conversations share."""


Workload = Synthetic | FromFile | FromTrace | Sessions

# --- how well -----------------------------------------------------------------------------------------


class Slo(Struct, frozen=True, kw_only=True):
    """What a request must keep to be good, besides being whole. None: not asked for."""

    ttft_ms: float | None = None
    itl_ms: float | None = None
    """The mean of the request's own gaps between tokens."""
    e2e_ms: float | None = None


class Price(Struct, frozen=True, kw_only=True):
    """Money for an hour of all that serves: replicas, GPUs, and whatever else is paid for."""

    per_hour: float
    currency: str = ""
    """For people; empty: not said."""


class RunPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run at one load."""

    target: Target
    arrivals: Arrivals
    workload: Workload
    duration_s: float
    """In which requests are due; those under way are then waited for."""
    requests_max: int | None = None
    warmup_s: float = 0.0
    """At the beginning of it, asked like the rest and left out of the figures."""
    timeout_s: float = 600.0
    """Per request, from when it was sent."""
    abandon_share: float = 0.0
    """Of requests whose client leaves before the end, 0 to 1."""
    abandon_after_s: float = 2.0
    """On average, exponential, from when it was sent."""
    slo: Slo = Slo()
    seed: int = 0
    processes: int = 1
    price: Price | None = None
    """Of what is asked; None: not known."""
