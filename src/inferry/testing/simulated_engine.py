"""The program `python -m inferry.testing.simulated_engine`: speaks vLLM's API, and makes the words up.

The key that requests must carry comes from the environment (INFERRY_ENGINE_KEY), never from the command line,
which every user of the machine can read.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import uvloop

from inferry.testing.simulated_app import Options
from inferry.testing.simulated_server import SimulatedServer, kill_this_process, running_simulated_engine

__all__ = ["KEY_VARIABLE", "RECORD_VARIABLE", "main", "running_simulated_engine"]

KEY_VARIABLE = "INFERRY_ENGINE_KEY"
RECORD_VARIABLE = "INFERRY_SIMULATED_RECORD"
"""A folder: each request is recorded in a file there. In the environment, so that it needs no key in the file."""


def _at_least(least: float, kind: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not least <= value < float("inf"):
            raise ValueError(text)
        return value

    parse.__name__ = f"number of at least {least}"
    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m inferry.testing.simulated_engine",
        allow_abbrev=False,
        description="An engine without a model: vLLM's HTTP API and metrics, made-up words, chosen timing.",
        epilog=f"Set {KEY_VARIABLE} to ask for 'Authorization: Bearer KEY' on every route but /health and /simulate/fault.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8100, help="port to listen on; 0 takes a free one (default: %(default)s)")
    add("--served-name", default="simulated", metavar="NAME", help="the model's name (default: %(default)s)")
    add(
        "--context-tokens",
        type=_at_least(16, int),
        default=8192,
        metavar="N",
        help="prompt and answer together (default: %(default)s)",
    )
    add(
        "--parallel",
        type=_at_least(1, int),
        default=64,
        metavar="N",
        help="sequences that run at once; more wait (default: %(default)s)",
    )
    add(
        "--ttft-ms",
        type=_at_least(0, float),
        default=50.0,
        metavar="X",
        help="time to the first token of who computes alone, if a step is no longer (default: %(default)s)",
    )
    add(
        "--itl-ms",
        type=_at_least(0, float),
        default=5.0,
        metavar="Y",
        help="time between two tokens: one step of the engine (default: %(default)s)",
    )
    add(
        "--step-ms-per-sequence",
        type=_at_least(0, float),
        default=0.0,
        metavar="Z",
        help="a step takes so much longer with each answer under way (default: %(default)s)",
    )
    add(
        "--prefill-tokens-per-s",
        type=_at_least(1, float),
        metavar="N",
        help="prompt tokens that are not cached make a step longer by this pace (default: they take no time)",
    )
    add(
        "--step-tokens-max",
        type=_at_least(1, int),
        metavar="N",
        help="prompts and answers of one step together (default: 8192; no bound where prompts take no time)",
    )
    add(
        "--kv-tokens",
        type=_at_least(16, int),
        metavar="N",
        help="what the KV cache holds, of running sequences and of prefixes that are kept "
        "(default: N of --context-tokens times N of --parallel, at most 1048576, at least one sequence)",
    )
    add(
        "--start-s",
        type=_at_least(0, float),
        default=0.0,
        metavar="S",
        help="listen only after so long, as an engine that loads its model (default: %(default)s)",
    )
    add(
        "--faults",
        action="store_true",
        help="allow faults on command: POST /simulate/fault, x-simulate-fault",
    )
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="another seed says other words (default: %(default)s)",
    )
    return parser


async def _serve(options: Options, host: str, port: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    server = SimulatedServer(options, host=host, port=port, crash=kill_this_process)
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), options.start_s)
        return 0
    try:
        await server.open()
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"inferry: the simulated engine can't listen on {host}:{port}: {error}\n")
        return os.EX_TEMPFAIL
    sys.stdout.write(
        f"SIMULATED engine (no model, made-up words) serves '{options.served_name}' on {server.base_url}"
        f"{', faults on command' if options.faults else ''}\n"
    )
    sys.stdout.flush()
    await stop.wait()
    await server.close()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    wanted = _parser().parse_args(argv)
    options = Options(
        served_name=wanted.served_name,
        context_tokens=wanted.context_tokens,
        parallel=wanted.parallel,
        ttft_s=wanted.ttft_ms / 1000,
        itl_s=wanted.itl_ms / 1000,
        prefill_tokens_per_s=wanted.prefill_tokens_per_s,
        step_s_per_sequence=wanted.step_ms_per_sequence / 1000,
        step_tokens_max=wanted.step_tokens_max,
        kv_tokens=wanted.kv_tokens,
        start_s=wanted.start_s,
        faults=wanted.faults,
        seed=wanted.seed,
        record_folder=Path(folder) if (folder := os.environ.get(RECORD_VARIABLE)) else None,
        key=os.environ.get(KEY_VARIABLE) or None,
    )
    return uvloop.run(_serve(options, wanted.host, wanted.port))


if __name__ == "__main__":
    sys.exit(main())
