"""What comes in a simulation, from the words of the command line: a trace, a journal, or a load that is made up as
`inferry bench` makes one: with the same words and the same seed, requests of the same lengths at the same times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate, islice
from pathlib import Path
from random import Random

from inferry.bench.arrivals import Scheduled, check_arrivals, due_times
from inferry.bench.chance import stream
from inferry.bench.plan import Constant, Gamma, Lengths, Poisson, Ramp, Steps
from inferry.bench.workload.lengths import draw
from inferry.cli.bench_words import lengths, positive_s, ramp, rate, steps
from inferry.cli.simulate_load_words import BLOCK_TOKENS, INPUT_TOKENS, OUTPUT_TOKENS, Load, LoadWords
from inferry.cli.simulate_servegen import is_servegen, servegen_load
from inferry.core.clock import utc_text, wall_s_of
from inferry.core.errors import ConfigError, LedgerError
from inferry.core.load_traces import TraceError, trace_format
from inferry.simulate.arrivals import Arrival, read_trace
from inferry.simulate.arrivals_journal import read_journals

KINDS = ("poisson", "constant", "gamma")
MOONCAKE_BLOCK_TOKENS = 512


def load_of(words: LoadWords) -> Load:
    """Raises ConfigError for what is malformed, contradicts itself, or is not there."""
    made = [each for each in ("rate", "ramp", "steps") if getattr(words, each) is not None]
    sources = [each for each in ("trace", "replay") if getattr(words, each) is not None] + made
    if not sources:
        raise ConfigError(
            "nothing comes: say which load, by --trace FILE, --replay PATH (your own requests), --rate 5, --ramp 1:20 or "
            "--steps 2:10m,10:20m."
        )
    if len(sources) > 1:
        raise ConfigError(f"--{sources[0]} and --{sources[1]} both say what comes. Give one of them.")
    if not words.speed > 0:  # nan, too
        raise ConfigError(f"--speed {words.speed:g}: must be above 0.")
    if words.hours is not None and not words.hours > 0:
        raise ConfigError(f"--hours {words.hours:g}: must be above 0.")
    if not 0 < words.share <= 1:
        raise ConfigError(f"--share {words.share:g}: must be above 0 and at most 1.")
    _refuse_idle(words, made=bool(made))
    if words.trace is not None and is_servegen(words.trace):
        return _cut(servegen_load(words), words)
    if words.trace is not None:
        return _cut(_thinned(_trace(words, words.trace), words), words)
    if words.replay is not None:
        return _cut(_thinned(_journal(words, words.replay), words), words)
    return _cut(_made_up(words), words)


def _refuse_idle(words: LoadWords, *, made: bool) -> None:
    """Options that would change nothing."""
    if made:
        idle = {"--speed": words.speed != 1, "--repeat": words.repeat != 1, "--share": words.share != 1}
        way_out = "it is for a recorded load: --trace or --replay"
    else:
        drawn = words.trace is not None and is_servegen(words.trace)
        idle = {
            "--input-tokens": words.input_tokens is not None and not drawn,
            "--output-tokens": words.output_tokens is not None and not drawn,
            "--prefix-tokens": words.prefix_tokens > 0,
            "--tenants": words.tenants is not None,
            "--duration": words.duration != "1h",
            "--arrivals": words.arrivals is not None,
            "--burstiness": words.burstiness is not None,
        }
        way_out = "it is for a made-up load: --rate, --ramp or --steps (of a recorded one, --hours cuts)"
    for option, is_given in idle.items():
        if is_given:
            raise ConfigError(f"{option}: {way_out}.")
    if words.replay is None and (words.since or words.until):
        raise ConfigError(f"--{'since' if words.since else 'until'}: it is for --replay.")
    if words.replay is not None and words.repeat != 1:
        raise ConfigError("--repeat: a journal is replayed once; --trace can be repeated.")


def _thinned(load: Load, words: LoadWords) -> Load:
    """Only --share of the requests, each drawn by itself."""
    share, seed = words.share, words.seed
    if share == 1:
        return load

    def arrivals() -> Iterator[Arrival]:
        chance = stream(seed, "share")
        return (each for each in load.arrivals() if chance.random() < share)

    return replace(load, says=f"{load.says}, {share:g} of the requests", arrivals=arrivals)


def _cut(load: Load, words: LoadWords) -> Load:
    """To --hours and --requests."""
    end_s = None if words.hours is None else words.hours * 3600
    if end_s is None and words.requests is None:
        return load

    def arrivals() -> Iterator[Arrival]:
        found: Iterable[Arrival] = islice(load.arrivals(), words.requests)
        for each in found:
            if end_s is not None and each.at_s >= end_s:
                return
            yield each

    says = load.says
    says += f", the first {words.hours:g} h" if words.hours is not None else ""
    says += f", the first {words.requests:,}" if words.requests is not None else ""
    until_s = load.until_s
    if words.requests is not None:
        until_s = None  # it ends with the last of them
    elif until_s is not None and end_s is not None:
        until_s = min(end_s, until_s)
    return replace(load, says=says, arrivals=arrivals, until_s=until_s)


def _trace(words: LoadWords, path: Path) -> Load:
    try:
        format = trace_format(path)
        read_trace(path)  # what is wrong with it is told before anything else is done
    except TraceError as error:
        raise ConfigError(f"--trace {error}") from error
    except OSError as error:
        raise ConfigError(f"--trace {path}: can't be read: {error.strerror or error}.") from error
    says = f"the trace {path.name} ({format})"
    says += f", {words.speed:g} times as fast" if words.speed != 1 else ""
    says += f", {words.repeat} times in a row" if words.repeat > 1 else ""
    block_tokens = MOONCAKE_BLOCK_TOKENS if format == "mooncake" else None
    return Load(says, lambda: read_trace(path, speed=words.speed, repeat=words.repeat), block_tokens)


def _journal(words: LoadWords, folder: Path) -> Load:
    try:
        found = read_journals(
            folder,
            begin_wall_s=_wall_s("--since", words.since, 0.0),
            end_wall_s=_wall_s("--until", words.until, math.inf),
            speed=words.speed,
            block_tokens=BLOCK_TOKENS,
        )
    except TraceError as error:
        raise ConfigError(f"--replay {error}.") from error
    except LedgerError as error:
        raise ConfigError(f"--replay {folder}: {error.message}") from error
    except OSError as error:
        raise ConfigError(f"--replay {folder}: can't be read: {error.strerror or error}.") from error
    says = f"what came by {folder}, from {utc_text(found.begin_wall_s)} on"
    says += f", {words.speed:g} times as fast" if words.speed != 1 else ""
    says += f"; {found.guessed:,} without an answer are of guessed lengths" if found.guessed else ""
    says += f"; {found.wrong:,} that clients had to correct are left out" if found.wrong else ""
    says += f"; {found.other:,} for embeddings, rerank or token counts are left out" if found.other else ""
    return Load(says, lambda: iter(found.arrivals), BLOCK_TOKENS, found.arrivals[-1].at_s, found.begin_wall_s)


def _wall_s(option: str, text: str | None, left_out: float) -> float:
    try:
        return left_out if text is None else wall_s_of(text)
    except ValueError:
        raise ConfigError(
            f"{option} {text}: write a UTC date or time as 2026-01-31 or '2026-01-31 12:00'."
        ) from None


def _made_up(words: LoadWords) -> Load:
    schedule, seconds, when = _schedule(words)
    check_arrivals(schedule)
    inputs = lengths("--input-tokens", words.input_tokens or INPUT_TOKENS)
    outputs = lengths("--output-tokens", words.output_tokens or OUTPUT_TOKENS)
    if words.prefix_tokens >= inputs.mean:
        raise ConfigError(
            f"--prefix-tokens {words.prefix_tokens}: is part of --input-tokens, and must be less than {inputs.mean:g}."
        )
    tenants = _tenants(words.tenants)
    says = f"made up: {when}, {_length_words(inputs)} tokens in and {_length_words(outputs)} out"
    if words.prefix_tokens:
        says += f", of which {words.prefix_tokens} are shared by each of {words.prefix_groups} groups"

    def arrivals() -> Iterator[Arrival]:
        seed = words.seed
        in_chance, out_chance, groups = (stream(seed, each) for each in ("input", "output", "group"))
        whose = stream(seed, "tenant")
        for at_s in due_times(schedule, seconds, seed):
            prompt = max(draw(inputs, in_chance), words.prefix_tokens + 1)
            group = groups.randrange(words.prefix_groups)
            yield Arrival(
                at_s,
                prompt,
                draw(outputs, out_chance),
                _blocks(group, words.prefix_tokens),
                _drawn(tenants, whose),
            )

    return Load(says, arrivals, BLOCK_TOKENS if words.prefix_tokens else None, seconds)


def _blocks(group: int, tokens: int) -> tuple[int, ...]:
    """Of the beginning that a group shares: whole ones, as engines share them."""
    return tuple((group << 20) + number for number in range(tokens // BLOCK_TOKENS))


def _schedule(words: LoadWords) -> tuple[Scheduled, float, str]:
    if words.rate is None and (words.arrivals is not None or words.burstiness is not None):
        option = "--arrivals" if words.arrivals is not None else "--burstiness"
        raise ConfigError(f"{option} says how requests spread: give --rate with it.")
    if words.steps is not None:
        if words.duration != "1h":
            raise ConfigError("--duration: --steps say by themselves how long.")
        parts = steps(words.steps)
        seconds = sum(each for _, each in parts)
        return Steps(parts), seconds, f"{words.steps} requests/s"
    seconds = positive_s("--duration", words.duration)
    lasts = f"for {words.duration}"
    if words.ramp is not None:
        low, high = ramp(words.ramp)
        return Ramp(low, high), seconds, f"from {low:g} to {high:g} requests/s {lasts}"
    assert words.rate is not None
    per_s, kind = rate("--rate", str(words.rate)), words.arrivals or "poisson"
    if words.burstiness is not None and kind != "gamma":
        raise ConfigError(f"--burstiness is of gamma arrivals: write --arrivals gamma, not {kind}.")
    schedules: dict[str, Scheduled] = {
        "constant": Constant(per_s),
        "poisson": Poisson(per_s),
        "gamma": Gamma(
            per_s, 1.0 if words.burstiness is None else rate("--burstiness", str(words.burstiness))
        ),
    }
    if kind not in schedules:
        raise ConfigError(f"--arrivals {kind}: must be one of {', '.join(KINDS)}.")
    return schedules[kind], seconds, f"{per_s:g} requests/s ({kind}) {lasts}"


def _length_words(found: Lengths) -> str:
    return f"{found.mean:g}" if found.spread == "fixed" else f"{found.mean:g} ({found.spread})"


def _tenants(text: str | None) -> tuple[tuple[str, float], ...]:
    """Names, and up to which number below 1 each is drawn."""
    if text is None:
        return ()
    shares = []
    for part in text.split(","):
        name, colon, share = part.strip().partition(":")
        if not name:
            raise ConfigError(f"--tenants {text}: write names with shares, for instance search:3,chat:1.")
        shares.append((name, rate("--tenants", share) if colon else 1.0))
    total = sum(share for _, share in shares)
    borders = accumulate(share / total for _, share in shares)
    return tuple((name, border) for (name, _), border in zip(shares, borders, strict=True))


def _drawn(tenants: tuple[tuple[str, float], ...], chance: Random) -> str:
    if not tenants:
        return ""
    number = chance.random()
    return next((name for name, border in tenants if number < border), tenants[-1][0])
