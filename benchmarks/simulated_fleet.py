"""A live fleet against its simulation: the same arrivals, the same lengths, the same settings.

    python -m benchmarks.simulated_fleet                                  # four simulated replicas, some five minutes
    python -m benchmarks.simulated_fleet --model FILE.gguf                # the embedded engine, fitted from probes first

`inferry bench` loads `inferry up` in an open loop; what it sent, and when, then comes to a simulation of the same
deployment. Compared are p50 and p90 over requests of the time to first token and of the tokens per second of an answer,
and the tokens per second of all. Within 10 % for simulated replicas, 20 % for the embedded engine; else exit code 1.
Beside them: how late the machine was with the replicas' steps, since a machine that is busy elsewhere makes the live
fleet slower, not the simulation wrong.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.e2e.inferry_process import Inferry, Up

from benchmarks.simulated_fleet_fit import embedded_timing
from inferry.core.outcome import Outcome
from inferry.core.routing_settings import Routing
from inferry.simulate.arrivals import Arrival
from inferry.simulate.experiment import run
from inferry.simulate.service import Service
from inferry.simulate.service_request import ServedRequest
from inferry.simulate.timing import EngineTiming
from inferry.simulate.timing_of_simulated import timing_of_simulated

REPLICAS, PARALLEL, CONTEXT = 4, 8, 4096
ITL_MS, MS_PER_SEQUENCE, PREFILL = 40.0, 0.5, 8000.0
INPUT, OUTPUT = 600, 64
SHARES = (0.3, 0.7, 0.95)
POLICIES = ("round_robin", "least_connections")
FILE = """\
deployments:
  chat:
    engine: simulated
    replicas: {replicas}
    parallel: {parallel}
    context_tokens: {context}
    ttft_ms: 0
    itl_ms: {itl_ms}
    step_ms_per_sequence: {per_sequence}
    prefill_tokens_per_s: {prefill}
    routing: {{policy: {policy}}}
"""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request that was answered in whole."""

    begin_s: float
    ttft_s: float
    e2e_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run."""

    ttft_p50_ms: float
    ttft_p90_ms: float
    speed_p50: float
    """Tokens per second of an answer, from its request to its end: half of them had less."""
    speed_p90: float
    """A tenth of them had less: as of times, the worse end."""
    tokens_per_s: float
    """All of them, from the first request to the last end."""


def figures(answered: Sequence[Answered]) -> Figures:
    ttft = sorted(each.ttft_s for each in answered)
    speed = sorted((each.tokens / each.e2e_s for each in answered), reverse=True)
    took_s = max(each.begin_s + each.e2e_s for each in answered) - min(each.begin_s for each in answered)
    return Figures(
        quantile(ttft, 0.5) * 1e3,
        quantile(ttft, 0.9) * 1e3,
        quantile(speed, 0.5),
        quantile(speed, 0.9),
        sum(each.tokens for each in answered) / took_s,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Between the two nearest."""
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def bench(inferry: Inferry, *words: str) -> tuple[list[Arrival], list[Answered]]:
    """Load the deployment; what was sent, and what came of it."""
    path = inferry.folder / "requests.csv"
    path.unlink(missing_ok=True)
    done = inferry.run("bench", "chat", *words, "-q", "--no-calibrate", "--csv", str(path), timeout_s=600)
    assert path.exists(), done.stdout + done.stderr
    arrivals, answered = [], []
    for row in csv.DictReader(path.read_text().splitlines()):
        assert row["verdict"] == "ok", row
        sent_s, tokens = float(row["sent_s"]), int(row["output_tokens"])
        arrivals.append(Arrival(sent_s, int(row["input_tokens"]), tokens))
        answered.append(
            Answered(
                sent_s, float(row["first_token_s"]) - sent_s, float(row["last_token_s"]) - sent_s, tokens
            )
        )
    arrivals.sort(key=lambda each: each.at_s)
    return arrivals, answered


def simulated(service: Service, arrivals: Sequence[Arrival]) -> list[Answered]:
    """What comes of the same requests in a simulation."""
    answered: list[Answered] = []

    def heard(request: ServedRequest, outcome: Outcome) -> None:
        assert outcome.ttft_s is not None, outcome
        answered.append(
            Answered(request.arrival_s, outcome.ttft_s, outcome.duration_s, outcome.completion_tokens or 0)
        )

    run([service], arrivals, heard=heard)
    return answered


def compare(name: str, live: Sequence[Answered], model: Sequence[Answered], bound: float) -> bool:
    """Print one line of the table; True where all of it is within the bound."""
    one, other = figures(live), figures(model)
    cells, worst = [], 0.0
    for field in Figures.__slots__:
        seen, said = getattr(one, field), getattr(other, field)
        worst = max(worst, abs(said / seen - 1))
        cells.append(f"{seen:.4g} / {said:.4g} ({said / seen - 1:+.1%})")
    fine = worst <= bound and len(live) == len(model)
    print(f"| {name} | {len(live)} | {' | '.join(cells)} | {'yes' if fine else 'NO'} |", flush=True)
    return fine


def head(bound: float) -> None:
    print(
        f"live / simulated (difference)\n\n| load | requests | TTFT p50, ms | TTFT p90, ms | tokens/s of one, p50 |"
        f" p90 | tokens/s of all | within {bound:.0%} |\n|---|---:|---:|---:|---:|---:|---:|---|"
    )


# --- simulated replicas -------------------------------------------------------------------------------


def capacity() -> float:
    """Requests per second of one replica with all places taken: steps of all places' tokens, and the prompts between."""
    step_s = (ITL_MS + MS_PER_SEQUENCE * PARALLEL) / 1e3
    return 1 / (INPUT / PREFILL + OUTPUT * step_s / PARALLEL)


def lateness(up: Up) -> tuple[float, float, float]:
    """Of all replicas: mean and worst lateness of a step in ms, and seconds given up."""
    steps = late_s = most_s = gone_s = 0.0
    for replica in up.replicas().values():
        place = Path(f"/proc/{replica['pid']}")
        argv = place.joinpath("cmdline").read_text().split("\0")
        environ = dict(each.partition("=")[::2] for each in place.joinpath("environ").read_text().split("\0"))
        port = argv[argv.index("--port") + 1]
        page = httpx.get(
            f"http://127.0.0.1:{port}/metrics",
            headers={"authorization": f"Bearer {environ['INFERRY_ENGINE_KEY']}"},
        ).text
        found = {
            line.partition("{")[0]: float(line.rpartition(" ")[2])
            for line in page.splitlines()
            if line.startswith("simulated:")
        }
        steps += found["simulated:steps_total"]
        late_s += found["simulated:late_seconds_total"]
        most_s = max(most_s, found["simulated:late_seconds_max"])
        gone_s += found["simulated:given_up_seconds_total"]
    return late_s / steps * 1e3, most_s * 1e3, gone_s


def simulated_fleet(folder: Path, seconds: float, seed: int, shares: Sequence[float]) -> bool:
    timing = timing_of_simulated(
        context_tokens=CONTEXT,
        parallel=PARALLEL,
        ttft_s=0,
        itl_s=ITL_MS / 1e3,
        step_s_per_sequence=MS_PER_SEQUENCE / 1e3,
        prefill_tokens_per_s=PREFILL,
    )
    print(
        f"{REPLICAS} simulated replicas of {PARALLEL} places; all carry about {REPLICAS * capacity():.1f}/s\n"
    )
    head(0.1)
    fine = True
    notes = []
    for policy in POLICIES:
        inferry = Inferry(folder)
        inferry.write(
            FILE.format(
                replicas=REPLICAS,
                parallel=PARALLEL,
                context=CONTEXT,
                itl_ms=ITL_MS,
                per_sequence=MS_PER_SEQUENCE,
                prefill=PREFILL,
                policy=policy,
            )
        )
        service = Service(timing=timing, replicas=REPLICAS, routing=Routing(policy=policy), slots=PARALLEL)
        with inferry.up() as up:
            up.wait_ready()
            for share in shares:
                rate = share * REPLICAS * capacity()
                arrivals, live = bench(
                    inferry, "--rate", f"{rate:.3f}", "--duration", f"{seconds:g}s", "--seed", str(seed),
                    "-i", f"normal:{INPUT}:{INPUT // 4}", "-o", f"normal:{OUTPUT}:{OUTPUT // 4}",
                )  # fmt: skip
                fine &= compare(f"{policy}, {share:.0%}", live, simulated(service, arrivals), 0.1)
            mean_ms, most_ms, gone_s = lateness(up)
            notes.append(
                f"{policy}: steps were told {mean_ms:.2f} ms late on average, {most_ms:.0f} ms at worst;"
                f" {gone_s:.2f} s were given up"
            )
    print("\n" + "\n".join(notes))
    return fine


# --- the embedded engine ------------------------------------------------------------------------------


def embedded(folder: Path, model: Path, seconds: float, seed: int, parallel: int) -> bool:
    inferry = Inferry(folder)
    inferry.write(
        f"deployments: {{chat: {{engine: llamacpp, model: 'file:{model}', threads: 1, parallel: {parallel}}}}}\n"
    )
    with inferry.up() as up:
        up.wait_ready()
        timing, rate = embedded_timing(lambda *words: bench(inferry, *words)[1], parallel)
        print(
            f"the embedded engine, {parallel} slots, as probed: {law(timing)}; it carries about {rate:.2f}/s\n"
        )
        head(0.2)
        service = Service(timing=timing, slots=parallel)
        fine = True
        for share in (0.3, 0.6, 0.8):
            arrivals, live = bench(
                inferry, "--rate", f"{share * rate:.3f}", "--duration", f"{seconds:g}s", "--seed", str(seed),
                "-i", "normal:96:24", "-o", "normal:48:12",
            )  # fmt: skip
            fine &= compare(f"{parallel} slots, {share:.0%}", live, simulated(service, arrivals), 0.2)
    return fine


def law(timing: EngineTiming) -> str:
    return (
        f"a step of {timing.step_s * 1e3:.2f} ms + {timing.step_s_per_sequence * 1e3:.2f} ms per answer, prompts at"
        f" {timing.prefill_tokens_per_s:.0f} tokens/s, {timing.request_s * 1e3:.1f} ms per request"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, help="a GGUF file: the embedded engine instead of simulated ones"
    )
    parser.add_argument("--parallel", type=int, default=4, help="its slots (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each load (default: %(default)s)")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of what the fleet carries")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if wanted.model is None:
            fine = simulated_fleet(Path(name), wanted.seconds, wanted.seed, wanted.shares)
        else:
            fine = embedded(Path(name), wanted.model.resolve(), wanted.seconds, wanted.seed, wanted.parallel)
    print(f"\n{'all within the bound' if fine else 'NOT all within the bound'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
