"""From the words of `inferry bench` to a plan; pure, but for the files that the words name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import msgspec

from inferry.bench.plan import (
    Api,
    Arrivals,
    Closed,
    Constant,
    FromFile,
    FromTrace,
    Gamma,
    Poisson,
    Ramp,
    RunPlan,
    Sessions,
    Slo,
    Steps,
    Synthetic,
    Target,
    TraceTimes,
    Workload,
)
from inferry.cli.bench_words import duration_s, lengths, positive_s, ramp, rate, steps
from inferry.core.errors import ConfigError

INPUT_TOKENS = "256"
OUTPUT_TOKENS = "128"
TURN_TOKENS = "64"
KINDS = ("poisson", "constant", "gamma")
SEARCH_START_RATE = 1.0
"""Where a search begins that was given no rate: it doubles from there, so little depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What was written for the load and the prompts, as it was written. Each field is the option of its name."""

    api: str
    rate: float | None
    arrivals: str | None
    poisson: bool
    burstiness: float | None
    concurrency: int | None
    ramp: str | None
    steps: str | None
    trace_speed: float | None
    duration: str
    requests: int | None
    warmup: str
    abandon_share: float
    abandon_after: str
    seed: int
    input_tokens: str | None
    output_tokens: str | None
    prefix_tokens: int
    prefix_groups: int
    same_prompts: bool
    workload: Path | None
    trace: Path | None
    trace_tokens_scale: float
    sessions: str | None
    turn_tokens: str | None
    think: str
    stop_early: bool
    no_stream: bool
    timeout: str
    extra: str | None


def plan_of(
    words: Words, base_url: str, model: str, key_variable: str | None, slo: Slo, processes: int
) -> RunPlan:
    """Raises ConfigError for what is malformed, or does not go together."""
    return RunPlan(
        target=Target(
            base_url=base_url,
            model=model,
            api=api_of(words.api),
            key_variable=key_variable,
            stream=not words.no_stream and words.api != "embeddings",
            ignore_eos=not words.stop_early,
            extra=_extra(words.extra),
        ),
        arrivals=arrivals_of(words),
        workload=workload_of(words),
        duration_s=_duration_s(words),
        requests_max=words.requests,
        warmup_s=_warmup_s(words),
        timeout_s=positive_s("--timeout", words.timeout),
        abandon_share=words.abandon_share,
        abandon_after_s=positive_s("--abandon-after", words.abandon_after),
        slo=slo,
        seed=words.seed,
        processes=processes,
    )


def api_of(text: str) -> Api:
    for known in get_args(Api):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise ConfigError(f"--api {text}: must be one of {', '.join(get_args(Api))}.")


def arrivals_of(words: Words) -> Arrivals:
    """When requests are due; one way of saying it, or none: then as the trace has it, or one user."""
    given = {
        "--rate": words.rate is not None,
        "--concurrency": words.concurrency is not None,
        "--ramp": words.ramp is not None,
        "--steps": words.steps is not None,
        "--trace-speed": words.trace_speed is not None,
    }
    named = [option for option, is_given in given.items() if is_given]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} both say when requests are sent. Give one of them.")
    kind = words.arrivals or "poisson"
    shape = [
        option
        for option, is_given in (("--arrivals", words.arrivals), ("--poisson", words.poisson))
        if is_given
    ]
    if words.poisson and kind != "poisson":
        raise ConfigError(f"--poisson and --arrivals {kind} contradict each other. Give one of them.")
    if words.rate is None and (shape or words.burstiness is not None):
        raise ConfigError(f"{(shape or ['--burstiness'])[0]} says how requests spread: give --rate with it.")
    if words.rate is not None:
        return _at_rate(kind, rate("--rate", str(words.rate)), words.burstiness)
    if words.concurrency is not None:
        return Closed(words.concurrency)
    if words.ramp is not None:
        return Ramp(*ramp(words.ramp))
    if words.steps is not None:
        return Steps(steps(words.steps))
    if words.trace is not None:
        return TraceTimes(
            rate("--trace-speed", str(words.trace_speed)) if words.trace_speed is not None else 1.0
        )
    if words.trace_speed is not None:
        raise ConfigError("--trace-speed goes with --trace FILE.")
    return Closed(1)


def _at_rate(kind: str, per_s: float, burstiness: float | None) -> Arrivals:
    if burstiness is not None and kind != "gamma":
        raise ConfigError(f"--burstiness is of gamma arrivals: write --arrivals gamma, not {kind}.")
    match kind:
        case "constant":
            return Constant(per_s)
        case "poisson":
            return Poisson(per_s)
        case "gamma":
            return Gamma(per_s, rate("--burstiness", str(burstiness)) if burstiness is not None else 1.0)
    raise ConfigError(f"--arrivals {kind}: must be one of {', '.join(KINDS)}.")


def workload_of(words: Words) -> Workload:
    """What is asked."""
    sources = {"--workload": words.workload, "--trace": words.trace, "--sessions": words.sessions}
    named = [option for option, value in sources.items() if value is not None]
    if len(named) > 1:
        raise ConfigError(f"{' and '.join(named)} both say what is asked. Give one of them.")
    for path in (words.workload, words.trace):
        if path is not None and not path.is_file():
            raise ConfigError(f"{named[0]} {path}: there is no such file.")
    if words.workload is not None:
        output = None if words.output_tokens is None else lengths("--output-tokens", words.output_tokens)
        return FromFile(path=str(words.workload), output_tokens=output)
    if words.trace is not None:
        return FromTrace(
            path=str(words.trace), tokens_scale=rate("--trace-tokens-scale", str(words.trace_tokens_scale))
        )
    first = lengths("--input-tokens", words.input_tokens or INPUT_TOKENS)
    output = lengths("--output-tokens", words.output_tokens or OUTPUT_TOKENS)
    if words.sessions is not None:
        return Sessions(
            turns=lengths("--sessions", words.sessions),
            first_tokens=first,
            turn_tokens=lengths("--turn-tokens", words.turn_tokens or TURN_TOKENS),
            output_tokens=output,
            think_s=duration_s("--think", words.think),
            prefix_tokens=words.prefix_tokens,
        )
    if words.prefix_tokens >= first.mean:
        raise ConfigError(
            f"--prefix-tokens {words.prefix_tokens}: is part of --input-tokens, and must be less than {first.mean:g}."
        )
    return Synthetic(
        input_tokens=first,
        output_tokens=output,
        prefix_tokens=words.prefix_tokens,
        prefix_groups=words.prefix_groups,
        unique=not words.same_prompts,
    )


def _duration_s(words: Words) -> float:
    if words.steps is not None:
        return sum(seconds for _, seconds in steps(words.steps))
    return positive_s("--duration", words.duration)


def _warmup_s(words: Words) -> float:
    warmup, duration = duration_s("--warmup", words.warmup), _duration_s(words)
    if warmup >= duration:
        raise ConfigError(
            f"--warmup {words.warmup}: is a part of --duration, and must be shorter than {duration:g} s."
        )
    return warmup


def _extra(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise ConfigError(
            f"--extra: must be a JSON object, for instance '{{\"temperature\": 0}}' ({error})."
        ) from error
