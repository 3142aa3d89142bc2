"""ServeGen's rates of clients as the load of a simulation: each client is a tenant."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from inferry.bench.workload.lengths import draw
from inferry.cli.bench_words import lengths
from inferry.cli.simulate_load_words import INPUT_TOKENS, OUTPUT_TOKENS, Load, LoadWords
from inferry.core.errors import ConfigError
from inferry.core.load_traces import TraceError
from inferry.simulate.arrivals import Arrival
from inferry.simulate.arrivals_servegen import WINDOW_S, read_lengths, read_rates, servegen

_RATES, _LENGTHS = "client_rates.csv", "length_pdfs.jsonl"


def is_servegen(path: Path) -> bool:
    """By the first line. False where it can't be read: who reads it tells why."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            return file.readline(200).startswith(b"client,window_start_s")
    except (OSError, EOFError):
        return False


def servegen_load(words: LoadWords) -> Load:
    """Lengths are those of the file beside it (..._length_pdfs.jsonl), where that is there; else as they are written, or
    the default. Raises ConfigError."""
    path = words.trace
    assert path is not None
    if words.repeat != 1:
        raise ConfigError("--repeat: rates of clients are drawn once; a recorded trace can be repeated.")
    beside = path.with_name(path.name.replace(_RATES, _LENGTHS))
    has_lengths = beside != path and beside.exists()
    try:
        clients = read_rates(path)
        known = read_lengths(beside) if has_lengths else None
    except TraceError as error:
        raise ConfigError(f"--trace {error}") from error
    except OSError as error:
        raise ConfigError(f"--trace {path}: can't be read: {error.strerror or error}.") from error
    inputs = lengths("--input-tokens", words.input_tokens or INPUT_TOKENS)
    outputs = lengths("--output-tokens", words.output_tokens or OUTPUT_TOKENS)
    end_s = max(windows[-1].begin_s for windows in clients.values()) + WINDOW_S

    def arrivals() -> Iterator[Arrival]:
        found = servegen(
            clients,
            prompt=partial(draw, inputs),
            answer=partial(draw, outputs),
            lengths=known,
            thin=words.share,
            seed=words.seed,
        )
        if words.speed == 1:
            return found
        return (msgspec.structs.replace(each, at_s=each.at_s / words.speed) for each in found)

    says = f"ServeGen's {path.name}, {len(clients):,} clients"
    says += f", {words.share:g} of the requests" if words.share != 1 else ""
    says += f", {words.speed:g} times as fast" if words.speed != 1 else ""
    says += (
        f"; lengths of {beside.name}"
        if has_lengths
        else f"; {inputs.mean:g} tokens in and {outputs.mean:g} out"
    )
    return Load(says, arrivals, until_s=end_s / words.speed)
