"""How fast a CPU engine is on a machine that was calibrated: a law of a few constants, and their fit to five probes.

A step that decodes `n` sequences takes: per-layer overhead + the larger of reading all weights once and of multiplying
them + attention over each sequence's context. Products for one sequence and for several go through other kernels, so
that the second sequence costs more than each further one. A prompt takes a constant + its products + attention, which
grows with the square of its length. Forms: roofline (Williams 2009) plus a launch term. Measured on this project's test
machine (2 cores of an EPYC, SmolLM2-135M Q4_1, llama.cpp): one sequence 7.2 ms a step, two 16.4, four 22; reading the
weights would take 2.5 ms: a law of bandwidth alone is off by a factor of 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from inferry.core.errors import ConfigError

from .answers import Interval, Performance
from .architecture import Architecture, FullAttention, LatentAttention
from .load import Load
from .step_work import matrices_of

ATTENTION_FLOPS_PER_PAIR = 4.0
"""Of one head element: one multiply-add for the score, one for the value."""
LAYER_PRIOR_S: Mapping[str, float] = MappingProxyType({"llamacpp": 20e-6, "vllm": 300e-6})
"""Overhead of a layer that one model's probes can't tell from its products. llama.cpp: some ten waits of its threads for
each other; vLLM: a dozen operations launched from Python. Both fit models of 8 to 30 layers (docs/calibrate.md)."""


@dataclass(frozen=True, slots=True)
class Spreads:
    """Relative half-widths of ranges."""

    ttft: float
    itl: float
    rate: float


OWN = Spreads(ttft=0.3, itl=0.25, rate=0.25)
"""Of the calibrated model. The largest errors in docs/calibrate.md: TTFT 28 %; ITL, and the rate with it, 25 % at three
requests at once."""
OTHER = Spreads(ttft=0.4, itl=0.4, rate=0.3)
"""Of another model of the same format: times were predicted 25 to 60 % too high there, rates 18 % too low."""


class Probe(msgspec.Struct, frozen=True):
    """One measurement: `concurrency` requests at once, each of that shape; means over them, medians of repetitions."""

    input_tokens: int
    output_tokens: int
    concurrency: int
    ttft_ms: float
    itl_ms: float


class HostSpeed(msgspec.Struct, frozen=True):
    """Of one engine and weight format on one machine. Rates are of all its threads together."""

    bandwidth_bytes_per_s: float
    """Measured streaming read."""
    layer_s: float
    """Overhead of one layer in one step."""
    decode_flops_per_s: float
    """Of a step with one sequence."""
    batch_flops_per_s: float
    """Of each sequence of a step with several."""
    batch_share: float
    """What a step with several costs besides, in steps with one sequence; may be negative."""
    decode_attention_flops_per_s: float
    prefill_flops_per_s: float
    prefill_attention_flops_per_s: float
    request_s: float
    """Of one request before its first token, whatever its length."""


@dataclass(frozen=True, slots=True)
class HostModel:
    """What of a model decides its speed on a CPU."""

    layers: int
    weights_bytes: float
    flops_per_token: float
    attention_flops_per_pair: float
    """Of one new token and one token of its context, all layers."""


def host_model(arch: Architecture, weights_bytes: float) -> HostModel:
    width = 0.0
    for group in arch.groups:
        mixer = group.attention
        if isinstance(mixer, FullAttention):
            width += group.count * mixer.heads * mixer.head_dim
        elif isinstance(mixer, LatentAttention):
            width += group.count * mixer.heads * (mixer.kv_rank + mixer.rope_dim)
    return HostModel(
        arch.layers, weights_bytes, 2 * matrices_of(arch).active, ATTENTION_FLOPS_PER_PAIR * width
    )


def step_s(model: HostModel, speed: HostSpeed, sequences: float, context_tokens: float) -> dict[str, float]:
    """One decode step, by cause, in seconds."""
    reading = model.weights_bytes / speed.bandwidth_bytes_per_s
    computing = _products_s(model, speed, sequences)
    attention = sequences * context_tokens * model.attention_flops_per_pair
    return {
        "overhead": model.layers * speed.layer_s,
        "weights": reading,
        "compute": max(computing - reading, 0.0),
        "kv": attention / speed.decode_attention_flops_per_s,
    }


def _products_s(model: HostModel, speed: HostSpeed, sequences: float) -> float:
    one = model.flops_per_token / speed.decode_flops_per_s
    many = one * speed.batch_share + max(sequences, 2.0) * model.flops_per_token / speed.batch_flops_per_s
    if sequences >= 2:
        return many
    return one + max(sequences - 1, 0.0) * (many - one)


def prefill_s(model: HostModel, speed: HostSpeed, tokens: float) -> float:
    """One prompt alone, without the request's own constant."""
    pairs = tokens * tokens / 2
    return (
        tokens * model.flops_per_token / speed.prefill_flops_per_s
        + pairs * model.attention_flops_per_pair / speed.prefill_attention_flops_per_s
    )


def predict_on_host(
    model: HostModel, speed: HostSpeed, load: Load, *, slots: int, spreads: Spreads = OWN
) -> Performance:
    """A closed loop or a burst of `slots` at most at once. Raises ConfigError for an open loop: give its concurrency."""
    at_once = load.concurrency if load.all_at_once is None else float(load.all_at_once)
    if at_once is None:
        raise ConfigError(
            "load.requests_per_s: a CPU engine's speed is predicted for a number of requests at once. "
            "Give load.concurrency."
        )
    running = min(at_once, float(slots))
    prompt = prefill_s(model, speed, load.input_tokens * (1 - load.prefix_hit))
    parts = step_s(model, speed, running, load.input_tokens + load.output_tokens / 2)
    step = sum(parts.values())
    steps = max(load.output_tokens - 1, 1.0)
    cycle = speed.request_s + running * prompt + steps * step
    if load.all_at_once is None:
        # Others' prompts come between one's own tokens; one's own comes alone.
        ttft, itl = speed.request_s + prompt, step + (running - 1) * prompt / steps
        parts["prefill"] = itl - step
    else:
        ttft, itl = speed.request_s + running * prompt, step
    waiting = at_once - running
    # In a closed loop by Little's law; a burst is taken in waves, of which the first waits for none.
    ttft += cycle * (waiting / running if load.all_at_once is None else _waves_before(at_once, running))
    rate = running / cycle
    return Performance(
        ttft_ms=_interval(1e3 * ttft, spreads.ttft),
        itl_ms=_interval(1e3 * itl, spreads.itl),
        output_tokens_per_s=_interval(rate * load.output_tokens, spreads.rate),
        requests_per_s=_interval(rate, spreads.rate),
        running=running,
        queued=waiting,
        limited_by="slots"
        if waiting
        else ("bandwidth" if parts["weights"] > parts["compute"] else "compute"),
        parts_ms={name: 1e3 * seconds for name, seconds in parts.items()},
    )


def _waves_before(requests: float, slots: float) -> float:
    """How many waves a request waits for, in the mean."""
    full, rest = divmod(requests, slots)
    return (slots * full * (full - 1) / 2 + rest * full) / requests


def fit_host_speed(
    engine: str, model: HostModel, bandwidth_bytes_per_s: float, probes: Sequence[Probe]
) -> HostSpeed:
    """The constants that explain the probes of one model: three lengths of prompts alone, one of them by two and by
    more at once. Raises ConfigError where they are missing. Noise makes no rate negative or infinite."""
    alone = sorted((each for each in probes if each.concurrency == 1), key=lambda each: each.input_tokens)
    batches = sorted((each for each in probes if each.concurrency > 1), key=lambda each: each.concurrency)
    if len({each.input_tokens for each in alone}) < 3 or len({each.concurrency for each in batches}) < 2:
        raise ConfigError("probes must have three lengths of prompts, and two numbers of requests at once")
    short, middle, long = alone[0], alone[len(alone) // 2], alone[-1]
    few, many = batches[0], batches[-1]
    further_s = (long.itl_ms - short.itl_ms) / 1e3
    attention_s = max(further_s, 0.0) / (_context(long) - _context(short))
    reading_s = model.weights_bytes / bandwidth_bytes_per_s

    def products_s(probe: Probe) -> float:
        """Of its step, without attention and overhead; what reads the weights takes no less than reading them."""
        step = probe.itl_ms / 1e3 - probe.concurrency * _context(probe) * attention_s
        return max(step - overhead_s, reading_s)

    overhead_s = 0.0
    overhead_s = min(LAYER_PRIOR_S.get(engine, 0.0) * model.layers, max(products_s(short) - reading_s, 0.0))
    one_s, few_s, many_s = products_s(short), products_s(few), products_s(many)
    each_s = max((many_s - few_s) / (many.concurrency - few.concurrency), 1e-3 * one_s)
    request_s, token_s, pair_s = _prompt_law(short, middle, long)
    return HostSpeed(
        bandwidth_bytes_per_s=bandwidth_bytes_per_s,
        layer_s=overhead_s / model.layers,
        decode_flops_per_s=model.flops_per_token / one_s,
        batch_flops_per_s=model.flops_per_token / each_s,
        batch_share=(few_s - few.concurrency * each_s) / one_s,
        decode_attention_flops_per_s=model.attention_flops_per_pair / max(attention_s, 1e-12),
        prefill_flops_per_s=model.flops_per_token / token_s,
        prefill_attention_flops_per_s=model.attention_flops_per_pair / pair_s,
        request_s=request_s,
    )


def _context(probe: Probe) -> float:
    return probe.input_tokens + probe.output_tokens / 2


def _prompt_law(short: Probe, middle: Probe, long: Probe) -> tuple[float, float, float]:
    """(constant, per token, per pair) through three times to first token; pairs are half the square of the length."""
    a, b, c = (float(each.input_tokens) for each in (short, middle, long))
    first, second, third = (each.ttft_ms / 1e3 for each in (short, middle, long))
    lower, upper = (second - first) / (b - a), (third - second) / (c - b)
    pair_s = max(2 * (upper - lower) / (c - a), 0.0)
    token_s = lower - pair_s * (a + b) / 2
    if token_s <= 0:  # noise: a straight line
        pair_s, token_s = 0.0, max((third - first) / (c - a), 1e-9)
    request_s = max(first - token_s * a - pair_s * a * a / 2, 0.0)
    return request_s, token_s, max(pair_s, 1e-15)


def _interval(value: float, spread: float) -> Interval:
    return Interval(value, value * (1 - spread), value * (1 + spread))
