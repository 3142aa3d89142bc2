"""SLO attainment against GPU-hours: ours, others', and an oracle, on ServeGen's two weeks.

    python -m benchmarks.scaling tune --traces DIR [--counts DIR]
    python -m benchmarks.scaling score m-large --traces DIR [--counts DIR]
    python -m benchmarks.scaling score m-small --traces DIR [--counts DIR]
    python -m benchmarks.scaling hours --traces DIR
    python -m benchmarks.scaling azure --traces DIR
    python -m benchmarks.scaling steady
    python -m benchmarks.scaling ramp
    python -m benchmarks.scaling page

`tune` tries every policy's settings on the first four days of m-large; `score` runs what was found and what documents
give on all days; `hours` holds the flow against single requests; `azure` are
Azure's hours of 2023; `steady` is one rate all the time; `ramp` is llm-d's published load; `page` writes
docs/autoscaling-figures.md from what they left in benchmarks/scaling/results. `--counts` keeps the drawn requests.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.scaling.azure import azure_hours
from benchmarks.scaling.by_request import HOURS, both
from benchmarks.scaling.counts import servegen
from benchmarks.scaling.page import write_page
from benchmarks.scaling.policies import Policy, ours_by_attainment, policies
from benchmarks.scaling.ramp import ramps
from benchmarks.scaling.scenes import DAY_S, TUNED_DAYS, Scene, scenes
from benchmarks.scaling.steady import steady_loads
from benchmarks.scaling.trials import facts, oracle, static_peak, trial

RESULTS = Path(__file__).parent / "results"
ATTAINMENT = 0.99
OURS = "ours"
"""Its defaults are scored: there is nothing to tune."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("tune", "score", "hours", "azure", "steady", "ramp", "page"))
    parser.add_argument("trace", nargs="?", choices=[each.name for each in scenes()])
    parser.add_argument("--traces", type=Path, help="the folder of ServeGen's files")
    parser.add_argument("--counts", type=Path, help="where drawn requests are kept")
    wanted = parser.parse_args()
    if wanted.what in ("tune", "score", "hours", "azure") and (
        wanted.traces is None or not wanted.traces.is_dir()
    ):
        parser.error("--traces: name the folder that has ServeGen's servegen_language_*_client_rates.csv.gz")
    if wanted.what == "score" and wanted.trace is None:
        parser.error("score: name the trace, m-large or m-small")
    if wanted.what == "tune":
        _keep("tuned", _tune(scenes()[0], wanted.traces, wanted.counts))
    elif wanted.what == "score":
        scene = next(each for each in scenes() if each.name == wanted.trace)
        _keep(scene.name, _score(scene, wanted.traces, wanted.counts))
    elif wanted.what == "hours":
        _keep("hours", _hours(wanted.traces))
    elif wanted.what == "azure":
        _keep("azure", azure_hours(wanted.traces))
    elif wanted.what == "steady":
        _keep("steady", steady_loads())
    elif wanted.what == "ramp":
        _keep("ramp", ramps())
    else:
        write_page(RESULTS)
    return 0


def _keep(name: str, found: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def _counts(scene: Scene, traces: Path, keep: Path | None) -> list[float]:
    return [float(each) for each in servegen(traces / scene.file, keep=keep)]


def _tune(scene: Scene, traces: Path, keep: Path | None) -> dict[str, Any]:
    """Every one of the others that is tried, with what it came to; per family, the cheapest that keeps 99 %, or keeps most."""
    counts = _counts(scene, traces, keep)[: TUNED_DAYS * DAY_S]
    tried: dict[str, Any] = {}
    for policy in policies():
        if policy.family == OURS:
            continue
        tried[policy.name] = _told(policy.name, {"family": policy.family} | _run(scene, counts, policy))
    best: dict[str, str] = {}
    for name, found in tried.items():
        other = best.get(found["family"])
        if other is None or _rank(found) < _rank(tried[other]):
            best[found["family"]] = name
    return {"days": TUNED_DAYS, "tried": tried, "best": best}


def _rank(found: dict[str, Any]) -> tuple[bool, float]:
    short = found["attainment"] < ATTAINMENT
    return short, -found["attainment"] if short else found["gpu_hours"]


def _score(scene: Scene, traces: Path, keep: Path | None) -> dict[str, Any]:
    counts = _counts(scene, traces, keep)
    best = set(json.loads((RESULTS / "tuned.json").read_text())["best"].values())
    told: dict[str, Any] = {}
    settings, result = oracle(scene, counts, ATTAINMENT)
    told["oracle"] = _told("oracle", {"settings": settings, "all": facts(result)} | _later(result))
    replicas, result = static_peak(scene, counts)
    told["static peak"] = _told(
        "static", {"settings": {"replicas": replicas}, "all": facts(result)} | _later(result)
    )
    for policy in policies():
        if policy.documented or policy.name in best:
            result = trial(scene, counts, policy.make(scene))
            told[policy.name] = _told(
                policy.name,
                {
                    "family": policy.family,
                    "documented": policy.documented,
                    "tuned": policy.name in best,
                    "all": facts(result),
                }
                | _later(result),
            )
    curve = {}
    for share, make in ours_by_attainment().items():
        if share != ATTAINMENT:
            curve[str(share)] = _told(f"ours {share}", facts(trial(scene, counts, make(scene))))
    return {
        "trace": scene.name,
        "replica_requests_per_s": round(scene.per_s, 3),
        "slots": scene.service.slots,
        "requests": int(sum(counts)),
        "policies": told,
        "curve": curve,
    }


def _later(result: Any) -> dict[str, Any]:
    """The days that nothing was tuned on."""
    return {"from_day_5": facts(result, TUNED_DAYS)}


def _run(scene: Scene, counts: list[float], policy: Policy) -> dict[str, Any]:
    return facts(trial(scene, counts, policy.make(scene)))


def _hours(traces: Path) -> dict[str, Any]:
    chosen = [each for each in policies() if each.documented and each.family in ("ours", "KPA")]
    found = []
    for scene, (begin_h, end_h, thin) in zip(scenes(), HOURS, strict=True):
        for policy in chosen:
            one = both(scene, policy, traces, begin_s=begin_h * 3600, end_s=end_h * 3600, thin=thin)
            about = {"trace": scene.name, "from_hour": begin_h, "to_hour": end_h, "share_of_requests": thin}
            found.append(_told(policy.name, about | one))
    return {"runs": found}


def _told(name: str, found: dict[str, Any]) -> dict[str, Any]:
    print(time.strftime("%H:%M:%S"), name, json.dumps(found), flush=True)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
