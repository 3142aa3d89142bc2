"""How long a client waits when the replica behind its stream is killed, and whether it notices anything else.

    python -m benchmarks.failover                      # kills; 200 streams, 4 replicas, 3 minutes
    python -m benchmarks.failover --harm anything      # kills, stops, refused connections, broken bytes, stalls
    python -m benchmarks.failover --harm none          # the same load in peace: what pauses it has by itself
    python -m benchmarks.failover --saturate --seconds 300

`inferry up` with SIMULATED replicas (made-up words at a chosen pace), so that the figures are those of noticing and of
moving a stream; a real engine computes prompt and answer so far anew, and its prefill comes on top. Load and replicas
share the machine. Each answer is checked as in tests/chaos: to the letter, to the token, to the cent.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import uvloop
from tests.chaos.campaign import Campaign, Findings, Harm, run_campaign
from tests.chaos.harms import anything_at_random, kill_at_random, no_harm
from tests.chaos.saturation import SATURATED, ReadyWatch

from benchmarks.gateway.machine import describe

HARMS = ("kills", "anything", "none")
SHOWN_MAX = 20


def main() -> int:
    """0: nothing was lost and no client noticed more than a pause."""
    wanted = _parser().parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if wanted.seed is None else wanted.seed
    for name, value in describe().items():
        print(f"{name}: {value}")
    print(f"seed: {seed}; {wanted.streams} streams, {wanted.replicas} replicas, {wanted.seconds:g} s")
    chat = {"replicas": wanted.replicas, "itl_ms": wanted.itl_ms}
    watch = ReadyWatch()
    harm: Harm = watch.harm if wanted.saturate else _harm(wanted.harm, wanted.every_s)
    if wanted.saturate:
        chat |= SATURATED
    campaign = Campaign(seconds=wanted.seconds, streams=wanted.streams, chat=chat)
    with tempfile.TemporaryDirectory() as folder:
        findings = uvloop.run(run_campaign(Path(folder), random.Random(seed), campaign, harm))
    return _verdict(findings, watch)


def _harm(name: str, every_s: float) -> Harm:
    return {"kills": kill_at_random(every_s), "anything": anything_at_random(every_s), "none": no_harm}[name]


def _verdict(findings: Findings, watch: ReadyWatch) -> int:
    print(f"harm done: {len(findings.log)} times")
    wrong = [*findings.faults(), *findings.books.unexplained, *watch.not_ready]
    for line in wrong[:SHOWN_MAX]:
        print(f"WRONG: {line}")
    print(f"{len(wrong)} things are wrong" if wrong else "nothing is wrong")
    return int(bool(wrong))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.failover", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--seconds", type=float, default=180.0, help="of load (default: %(default)g)")
    add("--streams", type=int, default=200, help="at the same time (default: %(default)s)")
    add("--replicas", type=int, default=4, help="simulated engines (default: %(default)s)")
    add("--itl-ms", type=float, default=100.0, help="between two tokens of a stream (default: %(default)g)")
    add("--harm", choices=HARMS, default="kills", help="what is done to replicas (default: %(default)s)")
    add("--every-s", type=float, default=3.0, help="how often, on average (default: %(default)g)")
    add("--saturate", action="store_true", help="no harm, but more streams than replicas have places for")
    add("--seed", type=int, help="repeats a run; left out: one of its own, which is printed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
