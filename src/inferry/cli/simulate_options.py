"""What `inferry simulate` can be told on its command line, in groups as `--help` shows them. Of a load, in the words of
`inferry bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inferry.cli.grouped_option import grouped_option as _option

_LOAD = "Load"
_WHAT_IF = "What if"
_SPEED = "How fast engines are"
_OUT = "Results"

Files = Annotated[
    list[Path], typer.Argument(metavar="FILE [OTHER...]", help="The deployment file; others are compared with it.", show_default=False)
]  # fmt: skip

TraceFile = Annotated[Path | None, _option("--trace", _LOAD, "Requests of a recorded trace: Mooncake, BurstGPT, Azure; or ServeGen's rates of clients.", "FILE")]  # fmt: skip
Replay = Annotated[Path | None, _option("--replay", _LOAD, "Requests of your own, as they came: the store's file (INFERRY_HOME/ledger/ledger.sqlite), or a folder of journals.", "PATH")]  # fmt: skip
Since = Annotated[str | None, _option("--since", _LOAD, "With --replay: those from this UTC date or time on, as 2026-01-31 or '2026-01-31 12:00'.", "WHEN")]  # fmt: skip
Until = Annotated[str | None, _option("--until", _LOAD, "With --replay: those before it.", "WHEN")]
Rate = Annotated[float | None, _option("--rate -r", _LOAD, "Made up: requests per second.", "R")]
ArrivalsName = Annotated[
    str | None, _option("--arrivals", _LOAD, "With --rate: poisson (default), constant or gamma.", "KIND")
]
Burstiness = Annotated[float | None, _option("--burstiness", _LOAD, "Of gamma: 1 is Poisson, less comes in bursts, more is smoother.", "X")]  # fmt: skip
RampText = Annotated[
    str | None, _option("--ramp", _LOAD, "Instead of a rate: from A to B requests per second.", "A:B")
]
StepsText = Annotated[str | None, _option("--steps", _LOAD, "Instead of a rate: requests per second and for how long, 2:10m,10:20m,1:30m.", "R:TIME,...")]  # fmt: skip
Duration = Annotated[
    str, _option("--duration -d", _LOAD, "Of a made-up load: 30s, 10m, 24h. Default: 1h.", "TIME")
]
InputTokens = Annotated[str | None, _option("--input-tokens -i", _LOAD, "256 (default), 100-300 evenly, normal:256:50 or lognormal:256:200 with mean and deviation.", "LENGTH")]  # fmt: skip
OutputTokens = Annotated[
    str | None, _option("--output-tokens -o", _LOAD, "The same. Default: 128.", "LENGTH")
]
PrefixTokens = Annotated[int, _option("--prefix-tokens", _LOAD, "At the beginning of --input-tokens, shared by all of a group.", "N", min=0)]  # fmt: skip
PrefixGroups = Annotated[int, _option("--prefix-groups", _LOAD, "How many different such beginnings there are. Default: 1.", "N", min=1)]  # fmt: skip
Tenants = Annotated[str | None, _option("--tenants", _LOAD, "Whose a made-up load is, with shares: search:3,chat:1.", "NAME:X,...")]  # fmt: skip
Share = Annotated[
    float, _option("--share", _LOAD, "Only this share of recorded requests, 0 to 1, drawn by the seed.", "X")
]
Speed = Annotated[float, _option("--speed --trace-speed", _LOAD, "How many times as fast as recorded.", "X")]
Repeat = Annotated[int, _option("--repeat", _LOAD, "A trace so many times in a row.", "N", min=1)]
Hours = Annotated[float | None, _option("--hours", _LOAD, "Only the first so many hours.", "H")]
Requests = Annotated[int | None, _option("--requests -n", _LOAD, "At most so many.", "N", min=1)]
Seed = Annotated[int, _option("--seed", _LOAD, "Of all that is drawn. Default: 0.", "N")]

DeploymentName = Annotated[str | None, _option("--deployment", _WHAT_IF, "Who is asked. Without: the file's only one.", "NAME")]  # fmt: skip
Set = Annotated[list[str] | None, _option("--set", _WHAT_IF, "Another value than the file's, in all that is simulated: deployments.chat.replicas=4.", "KEY=VALUE")]  # fmt: skip
Compare = Annotated[list[str] | None, _option("--compare", _WHAT_IF, "Beside the file: another file, or the same with KEY=VALUE,...; a name may stand before it, as in 'four: deployments.chat.replicas=4'. Again for more.", "OTHER")]  # fmt: skip
Failures = Annotated[str | None, _option("--failures", _WHAT_IF, "crash@10m,freeze@20m:60s,slow@30m:5m,metrics@40m:2m,gateways@50m:1m,starts@1h:10m; or a number: crashes per replica and hour.", "WHAT")]  # fmt: skip
Gateways = Annotated[int | None, _option("--gateways", _WHAT_IF, "Gateway processes. Without: gateway.workers, 1 where that is left out.", "N", min=1, max=64)]  # fmt: skip

Gpu = Annotated[str | None, _option("--gpu -g", _SPEED, "Engines run on such GPUs, as h100-80g. Without: on this machine's; without any, on its CPU as calibrated.", "NAME")]  # fmt: skip
Timing = Annotated[Path | None, _option("--timing", _SPEED, "Figures by hand, or a result of 'inferry bench --json'.", "FILE")]  # fmt: skip
StartS = Annotated[float | None, _option("--start-s", _SPEED, "From a replica's start until it serves. Without: scaling.start_s, else as seen here, else 120.", "S", min=0)]  # fmt: skip

SloText = Annotated[str | None, _option("--slo", _OUT, "What a good request keeps: ttft=2s,itl=100ms. Without: scaling.slo, else that.", "SLO")]  # fmt: skip
AsJson = Annotated[bool, _option("--json", _OUT, "For programs.")]
HtmlFile = Annotated[
    Path | None, _option("--html", _OUT, "A report with plots, in one file that needs no network.", "FILE")
]
PricePerGpuHour = Annotated[float | None, _option("--price-per-gpu-hour", _OUT, "Instead of the file's and the planner's.", "X", min=0)]  # fmt: skip
