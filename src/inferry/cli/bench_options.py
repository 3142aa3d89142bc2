"""What `inferry bench` can be told on its command line, in groups as `--help` shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inferry.cli.grouped_option import grouped_option as _option

_LOAD = "Load"
_PROMPTS = "Prompts and answers"
_GOAL = "Goals and searches"
_OUT = "Results"
_CLIENT = "Client and server"
_BREAK = "Breaking things"

TargetName = Annotated[
    str, typer.Argument(metavar="TARGET", help="A base URL (http://HOST:PORT/v1), or a deployment of the Inferry that runs here; 'compare' for results.")
]  # fmt: skip
Files = Annotated[
    list[Path] | None, typer.Argument(metavar="[A B]", help="After 'compare': two results of --json, or of other tools.", show_default=False)
]  # fmt: skip

Model = Annotated[
    str | None, _option("--model -m", _CLIENT, "The model to ask for. Without: the only one that is listed.")
]
ApiName = Annotated[
    str,
    _option("--api", _CLIENT, "chat (default), completions, responses, messages, tgi or embeddings.", "API"),
]
KeyVariable = Annotated[str | None, _option("--key-variable", _CLIENT, "The environment variable with the API key. Without: INFERRY_KEY, INFERRY_API_KEY or OPENAI_API_KEY, the first that is set.", "NAME")]  # fmt: skip
NoStream = Annotated[bool, _option("--no-stream", _CLIENT, "Ask for whole answers.")]
EngineName = Annotated[str | None, _option("--engine", _CLIENT, "Whose names a URL's /metrics page has: vllm, sglang, llamacpp, tgi, tensorrt-llm or none. Without: seen from the page.", "ENGINE")]  # fmt: skip
Calibrate = Annotated[bool | None, _option("--calibrate/--no-calibrate", _CLIENT, "Before a single run: measure for some seconds what the client itself adds, against a server that does nothing. Asked for in words, it also teaches the planner what a deployment of this machine did.")]  # fmt: skip
Processes = Annotated[int | None, _option("--processes", _CLIENT, "That send. Without: as many as the load needs, at most one per core.", "N", min=1, max=256)]  # fmt: skip
Timeout = Annotated[str, _option("--timeout", _CLIENT, "For one request: 600s.", "TIME")]
Extra = Annotated[
    str | None, _option("--extra", _CLIENT, "More fields of each request's body, as JSON.", "JSON")
]

Rate = Annotated[float | None, _option("--rate -r", _LOAD, "Requests per second, sent whether or not earlier ones are answered.", "R")]  # fmt: skip
ArrivalsName = Annotated[
    str | None, _option("--arrivals", _LOAD, "With --rate: poisson (default), constant or gamma.", "KIND")
]
IsPoisson = Annotated[bool, _option("--poisson", _LOAD, "The same as --arrivals poisson.")]
Burstiness = Annotated[float | None, _option("--burstiness", _LOAD, "Of gamma: 1 is Poisson, less comes in bursts, more is smoother.", "X")]  # fmt: skip
Concurrency = Annotated[int | None, _option("--concurrency -c", _LOAD, "Instead of a rate: N users of whom each asks again when answered. Hides queues.", "N", min=1)]  # fmt: skip
RampText = Annotated[
    str | None, _option("--ramp", _LOAD, "Instead of a rate: from A to B requests per second.", "A:B")
]
StepsText = Annotated[str | None, _option("--steps", _LOAD, "Instead of a rate: requests per second and for how long, 5:30s,10:30s.", "R:TIME,...")]  # fmt: skip
TraceSpeed = Annotated[float | None, _option("--trace-speed", _LOAD, "With --trace: how many times as fast as it was recorded.", "X")]  # fmt: skip
Duration = Annotated[
    str, _option("--duration -d", _LOAD, "In which requests are sent: 30, 30s, 2m. Default: 30s.", "TIME")
]
Requests = Annotated[int | None, _option("--requests -n", _LOAD, "At most so many.", "N", min=1)]
Warmup = Annotated[str, _option("--warmup", _LOAD, "At the beginning of the duration, left out of the figures. Default: 0s.", "TIME")]  # fmt: skip
AbandonShare = Annotated[float, _option("--abandon-share", _LOAD, "Of requests whose client leaves before the end, 0 to 1.", "X", min=0, max=1)]  # fmt: skip
AbandonAfter = Annotated[str, _option("--abandon-after", _LOAD, "On average. Default: 2s.", "TIME")]
Seed = Annotated[int, _option("--seed", _LOAD, "Of all that is drawn. Default: 0.", "N")]

InputTokens = Annotated[str | None, _option("--input-tokens -i", _PROMPTS, "256 (default), 100-300 evenly, normal:256:50 or lognormal:256:200 with mean and deviation.", "LENGTH")]  # fmt: skip
OutputTokens = Annotated[
    str | None, _option("--output-tokens -o", _PROMPTS, "The same. Default: 128.", "LENGTH")
]
PrefixTokens = Annotated[int, _option("--prefix-tokens", _PROMPTS, "At the beginning of --input-tokens, shared by all of a group.", "N", min=0)]  # fmt: skip
PrefixGroups = Annotated[int, _option("--prefix-groups", _PROMPTS, "How many different such beginnings there are. Default: 1.", "N", min=1)]  # fmt: skip
SamePrompts = Annotated[bool, _option("--same-prompts", _PROMPTS, "The same prompts in each run with one seed, so that caches may know them.")]  # fmt: skip
WorkloadFile = Annotated[Path | None, _option("--workload", _PROMPTS, "Prompts of a file: ShareGPT's JSON, or JSON lines with 'prompt' or 'messages'.", "FILE")]  # fmt: skip
TraceFile = Annotated[Path | None, _option("--trace", _PROMPTS, "Lengths, times and shared beginnings of a recorded trace: Mooncake, BurstGPT or Azure.", "FILE")]  # fmt: skip
TraceScale = Annotated[
    float, _option("--trace-tokens-scale", _PROMPTS, "Of the trace's lengths. Default: 1.", "X")
]
SessionTurns = Annotated[str | None, _option("--sessions", _PROMPTS, "Conversations of so many turns; --rate is then of new conversations.", "LENGTH")]  # fmt: skip
TurnTokens = Annotated[str | None, _option("--turn-tokens", _PROMPTS, "Of each question after a session's first. Default: 64.", "LENGTH")]  # fmt: skip
Think = Annotated[str, _option("--think", _PROMPTS, "Between an answer and a session's next question, on average. Default: 1s.", "TIME")]  # fmt: skip
StopEarly = Annotated[bool, _option("--stop-early", _PROMPTS, "Answers may be shorter than asked for. Without: 'ignore_eos' is sent.")]  # fmt: skip

SloText = Annotated[
    str | None, _option("--slo", _GOAL, "What a good request keeps: ttft=300ms,itl=50ms,e2e=10s.", "SLO")
]
GoodputMin = Annotated[float | None, _option("--goodput-min", _GOAL, "Share of requests that must be good, or exit code 1; the goal of --find-capacity (default there: 0.99).", "X", min=0, max=1)]  # fmt: skip
FindCapacity = Annotated[bool, _option("--find-capacity", _GOAL, "Search for the highest rate (with --concurrency: number of users) whose goodput holds.")]  # fmt: skip
SweepRates = Annotated[str | None, _option("--sweep-rates", _GOAL, "One run per rate: 1,2,5,10. A single number: so many, from light load to the capacity found.", "R,R,...")]  # fmt: skip
SweepConcurrency = Annotated[str | None, _option("--sweep-concurrency", _GOAL, "One run per number of users: 1,2,4,8.", "N,N,...")]  # fmt: skip
CompareWith = Annotated[str | None, _option("--compare", _GOAL, "'direct': the same load at the gateway and at its engine, in turns; or another base URL.", "WHAT")]  # fmt: skip

PricePerHour = Annotated[float | None, _option("--price-per-hour", _OUT, "Of all that serves, replicas and GPUs together: the report then says what a million tokens cost.", "X")]  # fmt: skip
Currency = Annotated[str | None, _option("--currency", _OUT, "Of --price-per-hour, a word for the report: EUR.", "NAME")]  # fmt: skip
Anyway = Annotated[bool, _option("--anyway", _OUT, "With 'compare': also where the workloads differ.")]
JsonFile = Annotated[Path | None, _option("--json", _OUT, "Results for programs.", "FILE")]
CsvFile = Annotated[Path | None, _option("--csv", _OUT, "One line per request.", "FILE")]
HtmlFile = Annotated[
    Path | None, _option("--html", _OUT, "The report, in one file that needs no network.", "FILE")
]
Quiet = Annotated[bool, _option("--quiet -q", _OUT, "No progress while it runs.")]
ShowPlan = Annotated[
    bool, _option("--show-plan", _OUT, "Print what would be run, as JSON, and send nothing.")
]

KillAfter = Annotated[str | None, _option("--kill-replica-after", _BREAK, "Kill a replica of the deployment during the run.", "TIME")]  # fmt: skip
StopAfter = Annotated[str | None, _option("--stop-replica-after", _BREAK, "Stop (SIGSTOP) a replica of the deployment during the run.", "TIME")]  # fmt: skip
