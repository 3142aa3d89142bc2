"""How a plan for this machine's CPU is shown: to people, to programs, and as a deployment file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from inferry.cli.plan_bar import gib
from inferry.cli.plan_file import name_of
from inferry.cli.plan_text import WIDTH_MAX, asked, predicted_row, table, wrapped
from inferry.core.clock import utc_text
from inferry.planner.answers import Interval
from inferry.planner.calibration import EngineCalibration
from inferry.planner.host_plan import SLOTS_MAX, HostPlan, HostSubject
from inferry.planner.wish import Wish

_TITLES = {"llamacpp": "llama.cpp", "vllm": "vLLM"}


@dataclass(frozen=True, slots=True)
class HereAnswer:
    cpu: str
    model: str
    """As the deployment file takes it."""
    format: str
    weights_estimated: bool
    """Its files are not here."""
    subject: HostSubject
    plan: HostPlan
    calibrated: EngineCalibration | None
    doubts: tuple[str, ...] = ()
    """Why the calibration should be taken again."""
    learned: tuple[tuple[str, Mapping[str, object]], ...] = ()


def here_text(answer: HereAnswer, wish: Wish, columns: int, *, explain: bool) -> str:
    width, plan = min(columns, WIDTH_MAX), answer.plan
    parts = [
        wrapped(asked(answer.subject.arch, wish), width),
        wrapped(_headline(answer), width),
        _memory(answer),
    ]
    if plan.at_load is not None:
        parts.append(_predicted(answer, wish))
    if plan.slots:
        parts.append(_settings(answer))
    if explain and plan.at_load is not None:
        parts.append(_step(answer))
    if notes := _notes(answer, wish):
        parts.append("\n".join(["NOTES", *(wrapped(note, width, "  - ") for note in notes)]))
    if answer.learned:
        said = (words for words, _ in answer.learned)
        parts.append("\n".join(["Learned from launches (leave it out: --no-learning)", *said]))
    return "\n\n".join(parts)


def verdict(plan: HostPlan) -> str:
    if not plan.slots:
        return "does_not_fit"
    if plan.at_load is None:
        return "not_measured"
    return "ok" if plan.good else "not_as_asked"


def here_json(answer: HereAnswer, wish: Wish) -> dict[str, Any]:
    plan, found = answer.plan, answer.plan.at_load
    return {
        "verdict": verdict(plan),
        "model": answer.subject.arch.name,
        "device": "this-cpu",
        "cpu": answer.cpu,
        "engine": answer.subject.engine,
        "weights": answer.format,
        "asked": {
            "users": wish.users,
            "requests_per_s": wish.requests_per_s,
            "input_tokens": wish.input_tokens,
            "output_tokens": wish.output_tokens,
            "ttft_ms": wish.slo.ttft_ms,
            "itl_ms": wish.slo.itl_ms,
        },
        "slots": plan.slots,
        "slots_fit": plan.slots_fit,
        "context_tokens": plan.context_tokens,
        "longest_context_tokens": plan.longest_tokens,
        "memory": {
            "weights": answer.subject.weights_bytes,
            "copies": answer.subject.copies_bytes,
            "kv": plan.kv_bytes,
            "engine_holds": plan.memory_bytes,
            "free": plan.free_bytes,
        },
        "predicted": None
        if found is None
        else {
            "ttft_ms": _range(found.ttft_ms),
            "itl_ms": _range(found.itl_ms),
            "output_tokens_per_s": _range(found.output_tokens_per_s),
            "requests_per_s": _range(found.requests_per_s),
            "parts_ms": dict(found.parts_ms),
        },
        "carries_at_once": None if found is None else plan.carries,
        "keeps_slo": None if found is None else plan.good,
        "calibrated_with": None
        if answer.calibrated is None
        else {"model": answer.calibrated.model, "at": utc_text(answer.calibrated.wall_s)},
        "calibrate": calibrate_command(answer),
        "warnings": _notes(answer, wish),
        "learned": [entry for _, entry in answer.learned],
    }


def here_file(answer: HereAnswer, wish: Wish) -> str:
    """A deployment file with what was planned."""
    plan, vllm = answer.plan, answer.subject.engine == "vllm"
    lines = [
        "# Written by 'inferry plan --here'. Check it with 'inferry config check'.",
        f"# {answer.subject.arch.name} on {answer.cpu}: {wish.input_tokens} tokens in and {wish.output_tokens} out.",
        "gateway:",
        "  listen: 127.0.0.1:8000",
        "",
        "deployments:",
        f"  {name_of(answer.subject.arch.name)}:",
        f"    engine: {answer.subject.engine}",
        f"    model: {answer.model}",
        f"    context_tokens: {plan.context_tokens}    # longest prompt and answer",
        f"    parallel: {plan.slots}    # at once",
    ]
    if vllm:
        lines.append(
            f'    env: {{VLLM_CPU_KVCACHE_SPACE: "{plan.kv_bytes // 1024**3}"}}    # GiB of KV cache'
        )
        lines.append('    extra_args: ["--enforce-eager"]    # needs no C++ compiler')
    return "\n".join(lines) + "\n"


def calibrate_command(answer: HereAnswer) -> str:
    return f"inferry calibrate --engine {answer.subject.engine} --model {answer.model or 'hf:org/name'}"


def _headline(answer: HereAnswer) -> str:
    plan, title = answer.plan, _TITLES[answer.subject.engine]
    if not plan.slots:
        ways = (
            f"--context {plan.longest_tokens} or less" if plan.longest_tokens else "a smaller model or format"
        )
        return (
            f"It does not fit on this machine with {title}: one request of {plan.context_tokens:,} tokens needs "
            f"{gib(plan.memory_bytes)} GiB, {gib(plan.free_bytes)} GiB are free. What fits: {ways}, or a machine with "
            "GPUs (--gpu)."
        )
    head = f"{title} on this machine's CPU, {plan.slots} at once, weights {answer.format}."
    if plan.at_load is None:
        return f"{head} How fast is not known: this was not measured here. Measure it: {calibrate_command(answer)}"
    if plan.good:
        return f"{head} It keeps the SLO, judged by the predictions as they are."
    return f"{head} It does not keep what was asked: it is at {plan.strain:.2g} times the bound."


def _memory(answer: HereAnswer) -> str:
    plan, subject = answer.plan, answer.subject
    slots = max(plan.slots, 1)
    cache = "told to take" if subject.engine == "vllm" else f"{slots} x {plan.context_tokens:,} tokens"
    rows = [
        ("MEMORY", "GiB", ""),
        (
            "weights",
            gib(subject.weights_bytes),
            "estimated from its config" if answer.weights_estimated else "its files",
        ),
        ("KV cache", gib(plan.kv_bytes), cache),
    ]
    if subject.copies_bytes:
        rows.append(("second copy", gib(subject.copies_bytes), "of weights, in another layout"))
    rows.append(
        (
            "in all",
            gib(plan.memory_bytes),
            f"predicted, the engine itself included; {gib(plan.free_bytes)} are free",
        )
    )
    return table(rows)


def _predicted(answer: HereAnswer, wish: Wish) -> str:
    plan, found = answer.plan, answer.plan.at_load
    assert found is not None
    load = "AT THIS LOAD" if wish.users is not None else "WITH ALL PLACES BUSY"
    return table(
        [
            (f"PREDICTED {load}", "", "RANGE", "ALLOWED"),
            predicted_row("first token (TTFT)", found.ttft_ms, 1, "ms", wish.slo.ttft_ms),
            predicted_row("each further token (ITL)", found.itl_ms, 1, "ms", wish.slo.itl_ms),
            predicted_row("output tokens", found.output_tokens_per_s, 1, "/s"),
            predicted_row("requests", found.requests_per_s, 1, "/s"),
            ("carries at once, within the SLO", f"{plan.carries:,}", "", ""),
        ]
    )


def _settings(answer: HereAnswer) -> str:
    plan = answer.plan
    rows = [
        ("SETTINGS", "", ""),
        (
            "longest request",
            f"{plan.context_tokens:,} tokens",
            f"context_tokens; up to {plan.longest_tokens:,} would fit",
        ),
        ("at once", str(plan.slots), "parallel"),
    ]
    if answer.subject.engine == "vllm":
        rows.append(("KV cache", f"{plan.kv_bytes // 1024**3} GiB", "VLLM_CPU_KVCACHE_SPACE"))
    return table(rows)


def _step(answer: HereAnswer) -> str:
    """One decode step by cause; the law and its source are told in the module that has it."""
    assert answer.plan.at_load is not None
    parts = answer.plan.at_load.parts_ms
    rows = [("ONE TOKEN OF EACH STREAM", "MS")]
    rows += [(name, f"{value:.3g}") for name, value in parts.items()]
    return "\n".join([table(rows), "  by the law of src/inferry/planner/host_speed.py (docs/calibrate.md)"])


def _notes(answer: HereAnswer, wish: Wish) -> list[str]:
    plan, known, subject = answer.plan, answer.calibrated, answer.subject
    notes = []
    if known is not None:
        most = max(each.concurrency for each in known.probes)
        if not subject.own:
            notes.append(
                f"Calibrated with {known.model}, not with this model, so that ranges are wider. Better: {calibrate_command(answer)}"
            )
        if plan.slots > most:
            notes.append(
                f"The calibration had {most} requests at once at most: {plan.slots} are beyond what was measured."
            )
    if plan.at_load is not None:
        notes.append(
            "Ranges are the largest errors seen on one machine (docs/calibrate.md), no promise for this one."
        )
        if wish.requests_per_s is not None:
            notes.append("Reckoned for requests that come evenly: those that come at random wait longer.")
    if plan.slots and plan.slots_fit < (wish.users or 0):
        why = "are looked at" if plan.slots_fit == SLOTS_MAX else "fit into the memory"
        notes.append(f"{plan.slots_fit} at once {why}; the others wait.")
    if answer.weights_estimated:
        notes.append("Its files are not on this machine: their bytes are an estimate.")
    if subject.engine == "llamacpp" and plan.slots:
        notes.append(
            "llama.cpp grows with use: it keeps computed prompts, up to 8 GiB (--cache-ram), not counted here."
        )
    return [*notes, *answer.doubts, *subject.arch.notes]


def _range(interval: Interval) -> dict[str, float]:
    return {key: value for key, value in asdict(interval).items() if key != "coverage"}
