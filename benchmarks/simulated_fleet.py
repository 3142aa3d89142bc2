"""A live fleet against its simulation: the same arrivals, the same lengths, the same settings.

    python -m benchmarks.simulated_fleet                                  # four simulated replicas, some five minutes
    python -m benchmarks.simulated_fleet --model FILE.gguf                # the embedded engine, some five minutes

`inferry bench` loads `inferry up` in an open loop; what it sent, and when, then comes to a simulation of the same
deployment. Compared are p50 and p90 over requests of the time to first token and of the tokens per second of an answer,
and the tokens per second of all. Within 10 % for simulated replicas, 20 % for the embedded engine; else exit code 1.
Beside them: how late the machine was with the replicas' steps, since a machine that is busy elsewhere makes the live
fleet slower, not the simulation wrong.

The embedded engine is probed right before and right after each third of a load, and that third is simulated with what
both say together: machines change their speed within minutes. Where the two differ by more than 10 %, it has changed
too much meanwhile; where the share of its time in which the thread that computes had to wait for a core is another one
than in the probes by more than 10 points, others had that core: such a third is void, is told, and is tried again. If
it stays so, the run is void (exit code 3, unless another load failed). It computes with one thread, so that on two
cores the gateway and the bench have the other one to themselves.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from tests.e2e.inferry_process import Inferry, Up

from benchmarks.simulated_fleet_fit import Probes, busy_s, embedded_timing, probe
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
    prompt_tokens: int
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
                sent_s,
                int(row["input_tokens"]),
                float(row["first_token_s"]) - sent_s,
                float(row["last_token_s"]) - sent_s,
                tokens,
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
            Answered(
                request.arrival_s,
                request.prompt_tokens,
                outcome.ttft_s,
                outcome.duration_s,
                outcome.completion_tokens or 0,
            )
        )

    run([service], arrivals, heard=heard)
    return answered


def compare(
    name: str, live: Sequence[Answered], model: Sequence[Answered], bound: float, *, void: bool = False
) -> bool:
    """Print one line of the table; True where all of it is within the bound."""
    one, other = figures(live), figures(model)
    cells, worst = [], 0.0
    for field in Figures.__slots__:
        seen, said = getattr(one, field), getattr(other, field)
        worst = max(worst, abs(said / seen - 1))
        cells.append(f"{seen:.4g} / {said:.4g} ({said / seen - 1:+.1%})")
    fine = worst <= bound and len(live) == len(model)
    print(
        f"| {name} | {len(live)} | {' | '.join(cells)} | {'void' if void else 'yes' if fine else 'NO'} |",
        flush=True,
    )
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

EMBEDDED_INPUT, EMBEDDED_OUTPUT = 64, 24
EMBEDDED_SHARES = (0.4, 0.6, 0.8)
DRIFT_MAX = 0.1
"""Between the probes before a load and after it, of what a request takes."""
WAITED_MAX = 0.1
"""Between the load and the mean of its probes, of the share of time that it waited for a core."""
PARTS = 3
"""Of a load, each between probes of its own: machines change their speed within minutes."""
TRIES = 2
"""Of a part that is void."""


def embedded(
    folder: Path, model: Path, requests: int, seed: int, parallel: int, shares: Sequence[float]
) -> int:
    """The exit code."""
    inferry = Inferry(folder)
    inferry.write(
        f"deployments: {{chat: {{engine: llamacpp, model: 'file:{model}', threads: 1, parallel: {parallel}}}}}\n"
    )

    def ask(*words: str) -> tuple[list[Arrival], list[Answered]]:
        # Without a chat template, whose beginning each slot would know from the second request on.
        return bench(inferry, *words, "--api", "completions")

    notes, verdicts = [], []
    with inferry.up() as up:
        up.wait_ready()
        (replica,) = up.replicas().values()
        core = Core(replica["pid"])

        def probed() -> tuple[Probes, float]:
            core.waited()
            return probe(lambda *words: ask(*words)[1], parallel), core.waited()

        before, waited_before = probed()
        rate = 1 / busy_s(embedded_timing([before], parallel), EMBEDDED_INPUT, EMBEDDED_OUTPUT)
        print(f"the embedded engine, {parallel} slots, 1 thread; as probed it carries about {rate:.2f}/s\n")
        head(0.2)
        for share in shares:
            name = f"{parallel} slots, {share:.0%}"
            live: list[Answered] = []
            said: list[Answered] = []
            for part in range(PARTS):
                for _ in range(TRIES):
                    arrivals, answers = ask(
                        "--rate", f"{share * rate:.3f}", "-n", str(requests // PARTS), "--seed", str(seed + part),
                        "--duration", f"{3 * requests / (share * rate):.0f}s",
                        "-i", f"normal:{EMBEDDED_INPUT}:{EMBEDDED_INPUT // 4}",
                        "-o", f"normal:{EMBEDDED_OUTPUT}:{EMBEDDED_OUTPUT // 4}",
                    )  # fmt: skip
                    waited = core.waited()
                    after, waited_after = probed()
                    drift = _drift(embedded_timing([before], parallel), embedded_timing([after], parallel))
                    timing = embedded_timing([before, after], parallel)
                    more = waited - (waited_before + waited_after) / 2
                    before, waited_before = after, waited_after
                    void = abs(drift) > DRIFT_MAX or abs(more) > WAITED_MAX
                    notes.append(
                        f"{name}, part {part + 1}: {law(timing)}; {drift:+.1%} from before it to after it; waited for a"
                        f" core in {waited:.1%} of its time, {more * 100:+.1f} points more than in the probes"
                        f"{'; VOID' * void}"
                    )
                    if not void:
                        break
                live += behind(live, answers)
                said += behind(said, simulated(Service(timing=timing, slots=parallel), arrivals))
                if void:
                    break
            fine = compare(name, live, said, 0.2, void=void)
            verdicts.append(None if void else fine)
    print("\n" + "\n".join(notes))
    if None in verdicts and False not in verdicts:
        print("\nVOID: the machine changed its speed during a load: run it again when nothing else runs")
        return 3
    return verdict(False not in verdicts)


def behind(earlier: Sequence[Answered], later: Sequence[Answered]) -> list[Answered]:
    """`later` moved so that it begins when all of `earlier` have ended."""
    end_s = max((each.begin_s + each.e2e_s for each in earlier), default=0.0)
    begin_s = min(each.begin_s for each in later)
    return [replace(each, begin_s=each.begin_s - begin_s + end_s) for each in later]


def _drift(before: EngineTiming, after: EngineTiming) -> float:
    """0.1: a request takes 10 % more of it than before."""
    one, other = (busy_s(each, EMBEDDED_INPUT, EMBEDDED_OUTPUT) for each in (before, after))
    return other / one - 1


class Core:
    """Does the thread that computes get one? (docs.kernel.org, "Scheduler Statistics": /proc/<pid>/schedstat)"""

    def __init__(self, pid: int) -> None:
        self._tasks = Path(f"/proc/{pid}/task")
        self._before = (0, 0)

    def waited(self) -> float:
        """Share of its time since the last call in which it wanted to run and did not."""
        threads = (each.read_text().split() for each in self._tasks.glob("*/schedstat"))
        ran, waits = now = max((int(ran), int(waits)) for ran, waits, _ in threads)
        ran, waits, self._before = ran - self._before[0], waits - self._before[1], now
        return waits / max(ran + waits, 1)


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
    parser.add_argument(
        "--requests",
        type=int,
        default=60,
        help="of each of the embedded engine's loads (default: %(default)s)",
    )
    parser.add_argument("--shares", type=float, nargs="+", help="of what the fleet carries")
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if wanted.model is None:
            return verdict(simulated_fleet(Path(name), wanted.seconds, wanted.seed, wanted.shares or SHARES))
        return embedded(
            Path(name), wanted.model.resolve(), wanted.requests, wanted.seed, wanted.parallel,
            wanted.shares or EMBEDDED_SHARES,
        )  # fmt: skip


def verdict(fine: bool) -> int:
    print(f"\n{'all within the bound' if fine else 'NOT all within the bound'}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
