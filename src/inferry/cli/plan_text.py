"""How `inferry plan` shows an answer to people: the recommendation first, then memory, figures and alternatives."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from inferry.cli.plan_bar import memory_bar
from inferry.planner.answers import Interval
from inferry.planner.architecture import Architecture
from inferry.planner.capacity import ttft_quantile
from inferry.planner.cost import energy_wh_per_mtok_most
from inferry.planner.device import Price
from inferry.planner.load import Slo
from inferry.planner.reasons import cheaper_changed, differs, spare, warnings, why
from inferry.planner.recommend import Option, Recommendation
from inferry.planner.relief import Relief
from inferry.planner.setup import EngineName, Setup
from inferry.planner.wish import SLO_DEFAULT, Wish

TITLES: dict[EngineName, str] = {
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tensorrt_llm": "TensorRT-LLM",
    "tgi": "TGI",
    "ollama": "Ollama",
    "llamacpp": "llama.cpp",
}
WIDTH_MAX = 110
NARROW = 80
"""Terminals below it get a row as lines, where the table would not fit."""


def answer_text(
    arch: Architecture,
    wish: Wish,
    found: Recommendation,
    reliefs: Sequence[Relief],
    columns: int,
    *,
    colour: bool,
) -> str:
    best, width = found.best, min(columns, WIDTH_MAX)
    parts = [
        wrapped(asked(arch, wish), width),
        wrapped(f"{headline(best, wish)} {why(best, found.others, wish)}", width),
    ]
    if reliefs:
        parts.append(reliefs_text(reliefs, wish, width))
    parts.append(
        memory_bar(best.sized.memory, best.sized.candidate.hardware.device.name, width, colour=colour)
    )
    parts.append(_predicted(best, wish, width))
    parts.append(_settings(best, width))
    if best.cost is not None or best.sized.candidate.hardware.device.power_w is not None:
        parts.append(_cost(best, width))
    if found.others:
        parts.append(_alternatives(found, wish, width))
    notes = [
        text
        for text in (cheaper_changed(best, found.others), spare(best, wish), *warnings(best, arch, wish))
        if text
    ]
    if notes:
        parts.append("\n".join(["NOTES", *(wrapped(note, width, "  - ") for note in notes)]))
    parts.append(f"{found.looked_at} ways were judged. Each number with its formula: --explain")
    return "\n\n".join(parts)


def asked(arch: Architecture, wish: Wish) -> str:
    """What was understood, defaults among it."""
    load = "as much load as it carries"
    if wish.users is not None:
        load = f"{wish.users:,} user{'s' if wish.users > 1 else ''} at once, each asking again when answered"
    elif wish.requests_per_s is not None:
        load = f"{wish.requests_per_s:g} requests/s"
    chosen = " (our default; yours: --slo ttft=...,itl=...)" if wish.slo == SLO_DEFAULT else ""
    return (
        f"{arch.name} for {load}; {wish.input_tokens:,} tokens in and {wish.output_tokens:,} out on average; "
        f"{slo_text(wish.slo)}{chosen}."
    )


def slo_text(slo: Slo) -> str:
    said = []
    if slo.ttft_ms is not None:
        said.append(f"first token within {duration(slo.ttft_ms)} for {slo.percentile:.0%} of requests")
    if slo.itl_ms is not None:
        said.append(f"{duration(slo.itl_ms)} per token after it")
    return " and ".join(said) if said else "no bound on latency"


def headline(option: Option, wish: Wish) -> str:
    """`Take 2 x h100-80g for 7.98 USD/h: ...`"""
    sized = option.sized
    verb = "Take" if option.good else "Nearest:"
    price = "" if option.cost is None else f" for {option.cost.usd_per_hour:.2f} USD/h"
    what = f"{verb} {sized.devices} x {sized.candidate.hardware.device.name}{price}: {way(option)}."
    if not wish.has_load and sized.capacity.concurrency:
        return f"{what} It {carries(option, wish)}."
    return what


def carries(option: Option, wish: Wish) -> str:
    """All replicas together, in the unit of what was asked."""
    sized = option.sized
    if not sized.capacity.concurrency:
        return "carries nothing within the SLO: one request alone misses it"
    if wish.requests_per_s is not None:
        rate = sized.capacity.requests_per_s * sized.replicas
        return f"carries {f'{rate:.3g}' if rate < 100 else f'{rate:,.0f}'} requests/s within the SLO"
    total = sized.capacity.concurrency * sized.replicas
    return f"carries {total:,} request{'' if total == 1 else 's'} at once within the SLO"


def way(option: Option) -> str:
    """`1 replica of SGLang on 2 GPUs each (TP 2), weights fp8, KV cache bf16`."""
    sized, setup = option.sized, option.sized.setup
    each = f" on {setup.devices} devices each ({degrees(setup)})" if setup.devices > 1 else ""
    replicas = f"{sized.replicas} replica{'s' if sized.replicas > 1 else ''}"
    source = sized.candidate.source
    made = f" (of {source.repo})" if source.repo else ""
    if source.at_load or source.to_find:
        made = " (made while loading)" if source.at_load else " (to be found or made)"
    return f"{replicas} of {TITLES[setup.engine]}{each}, weights {setup.weights}{made}, KV cache {setup.kv}"


def degrees(setup: Setup) -> str:
    pipeline = f" PP {setup.pipeline_parallel}" if setup.pipeline_parallel > 1 else ""
    return f"TP {setup.tensor_parallel}{pipeline}"


def reliefs_text(reliefs: Sequence[Relief], wish: Wish, width: int) -> str:
    lines = ["WHAT WOULD DO (each checked)"]
    lines += [wrapped(relief_words(each, wish), width, "  - ") for each in reliefs]
    return "\n".join(lines)


def relief_words(relief: Relief, wish: Wish) -> str:
    option, sized = relief.option, relief.option.sized
    price = "" if option.cost is None else f", {option.cost.usd_per_hour:.2f} USD/h"
    hardware = f"{sized.devices} x {sized.candidate.hardware.device.name}"
    match relief.change:
        case "less_load":
            if wish.users is not None:
                users = sized.capacity.concurrency * sized.replicas
                return f"Less load: {users:,} user{'s' if users > 1 else ''} on {hardware}."
            return (
                f"Less load: {sized.capacity.requests_per_s * sized.replicas:.3g} requests/s on {hardware}."
            )
        case "more_devices":
            return f"More of these devices: {hardware}{price}, {way(option)}."
        case "other_devices":
            return f"Other devices: {hardware}{price}, {way(option)}."
        case "looser_slo":
            assert relief.slo is not None
            return f"A looser SLO: {slo_text(relief.slo)}, on {hardware}{price}."
        case "more_budget":
            return f"More money: {hardware}{price}, {way(option)}."
        case "fewer_devices":
            users = sized.capacity.concurrency * sized.replicas
            return f"Within the budget: {hardware}{price} carry {users:,} requests at once."


def _predicted(option: Option, wish: Wish, width: int) -> str:
    sized, found = option.sized, option.sized.at_load
    all_of_them = "" if sized.replicas == 1 else ", of all replicas"
    load = "AT THIS LOAD" if wish.has_load else "AT ITS CAPACITY"
    rows = [(f"PREDICTED {load}", "", f"{found.ttft_ms.coverage:.0%} RANGE", "ALLOWED")]
    share = wish.slo.percentile
    tail = ttft_quantile(found, share)
    rows.append(predicted_row("first token (TTFT), mean", found.ttft_ms, 1, "ms"))
    rows.append(predicted_row(f"first token, {share:.0%} have it by", tail, 1, "ms", wish.slo.ttft_ms))
    if wish.output_tokens > 1:
        rows.append(predicted_row("each further token (ITL)", found.itl_ms, 1, "ms", wish.slo.itl_ms))
    times = sized.busy_replicas
    rows.append(predicted_row(f"output tokens{all_of_them}", found.output_tokens_per_s, times, "/s"))
    rows.append(predicted_row(f"requests{all_of_them}", found.requests_per_s, times, "/s"))
    if wish.has_load:
        use = f"{sized.utilisation:.0%}" if sized.capacity.concurrency else "-"
        rows.append(("used, of the capacity", use, carries(option, wish), ""))
    return table(rows, width)


def predicted_row(
    name: str, interval: Interval, times: float, unit: str, allowed_ms: float | None = None
) -> tuple[str, str, str, str]:
    def told(value: float) -> str:
        return (
            duration(value)
            if unit == "ms"
            else f"{value * times:,.3g}{unit}"
            if value * times < 1000
            else f"{value * times:,.0f}{unit}"
        )

    limit = "" if allowed_ms is None else duration(allowed_ms)
    spread = f"{told(interval.low)} to {told(interval.high)}" if math.isfinite(interval.value) else ""
    return name, told(interval.value), spread, limit


def _settings(option: Option, width: int) -> str:
    setup, memory = option.sized.setup, option.sized.memory
    rows = [
        ("SETTINGS", "", ""),
        ("replicas", str(option.sized.replicas), ""),
        ("tensor, pipeline parallel", f"{setup.tensor_parallel}, {setup.pipeline_parallel}", ""),
        ("longest request", f"{setup.max_model_tokens:,} tokens", "max_model_len"),
        ("sequences at once", f"{setup.max_sequences:,}", "max_num_seqs, per replica"),
        ("tokens per step", f"{setup.max_batched_tokens:,}", "max_num_batched_tokens"),
        ("memory fraction", f"{setup.memory_fraction:g}", ""),
        ("KV cache", f"{memory.kv_tokens:,} tokens", "per replica, predicted"),
    ]
    return table(rows, width)


def _cost(option: Option, width: int) -> str:
    cost, sized = option.cost, option.sized
    rows: list[tuple[str, str, str]] = [("COST AND ENERGY", "", "")]
    price = sized.candidate.hardware.device.price
    if cost is not None and price is not None:
        all_on = cost.usd_per_mtok_all_on_output
        rows += [
            (
                "per hour",
                f"{cost.usd_per_hour:.2f} USD",
                price_words(price),
            ),
            (
                "per million output tokens",
                f"{money(all_on.value)} USD",
                f"{money(all_on.low)} to {money(all_on.high)}; prompts counted as free",
            ),
            (
                "or shared out by time",
                f"{money(cost.usd_per_mtok_input)} + {money(cost.usd_per_mtok_output)} USD",
                "per million in + per million out, an estimate",
            ),
        ]
    else:
        rows.append(("price", "not known", "facts.devices in the deployment file takes yours"))
    rate = sized.busy_replicas * sized.at_load.output_tokens_per_s.value
    energy = energy_wh_per_mtok_most(sized.candidate.hardware.device, sized.devices, rate)
    if energy is not None:
        rows.append(
            ("energy, at most", f"{energy / 1000:.3g} kWh", "per million output tokens, at the power limit")
        )
    return table(rows, width)


def _alternatives(found: Recommendation, wish: Wish, width: int) -> str:
    rows = [
        (
            "ALTERNATIVES",
            "ENGINE",
            "WEIGHTS",
            "KV",
            "SPLIT",
            "REPLICAS",
            "USD/H",
            f"TTFT {wish.slo.percentile:.0%}",
            "ITL",
            "USED",
            "INSTEAD",
        )
    ]
    for option in (found.best, *found.others):
        sized, setup = option.sized, option.sized.setup
        use = f"{sized.utilisation:.0%}" if sized.capacity.concurrency and wish.has_load else "-"
        rows.append(
            (
                f"{sized.devices} x {sized.candidate.hardware.device.name}",
                TITLES[setup.engine],
                f"{setup.weights}{'*' if not sized.candidate.source.native else ''}",
                setup.kv,
                degrees(setup),
                str(sized.replicas),
                "-" if option.cost is None else f"{option.cost.usd_per_hour:.2f}",
                duration(ttft_quantile(sized.at_load, wish.slo.percentile).value),
                duration(sized.at_load.itl_ms.value) if wish.output_tokens > 1 else "-",
                use,
                "the one above" if option is found.best else differs(found.best, option),
            )
        )
    shown = [table(rows, width)]
    notes = {
        each.sized.candidate.source.note for each in found.others if not each.sized.candidate.source.native
    }
    shown += [wrapped(note, width, "  * ") if width < NARROW else f"  * {note}" for note in sorted(notes)]
    return "\n".join(shown)


# --- small words --------------------------------------------------------------------------------------


def table(rows: Sequence[tuple[str, ...]], width: int = WIDTH_MAX) -> str:
    """Columns as wide as their widest cell; the first row is the heading. Where `width` is narrow and too little for
    that, each row is its first cell and, indented, the others after their headings."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        lead = "" if number == 0 else "  "
        first = widths[0] + 2 - len(lead)
        cells = [
            f"{lead}{row[0].ljust(first)}",
            *(cell.ljust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    if width < NARROW and max(map(len, lines)) > width:
        return _as_lines(rows, width)
    return "\n".join(lines)


def _as_lines(rows: Sequence[tuple[str, ...]], width: int) -> str:
    heading = rows[0]
    lines = [heading[0]]
    for row in rows[1:]:
        told = [
            f"{name} {cell}".strip() for name, cell in zip(heading[1:], row[1:], strict=True) if cell.strip()
        ]
        lines += [wrapped(row[0], width, "  "), wrapped(", ".join(told), width, "      ")]
    return "\n".join(lines)


def duration(ms: float) -> str:
    """`39.8 ms`, `1.6 s`: three figures at most. Of a queue that grows for as long as it runs: `grows`."""
    if math.isinf(ms):
        return "grows"
    if ms >= 1000:
        return f"{ms / 1000:.3g} s"
    return f"{ms:.3g} ms"


def price_words(price: Price) -> str:
    """With its kind, where the source's words don't hold it."""
    kind = "" if price.kind in price.source else f"{price.kind} "
    return f"{kind}price of {price.as_of}, {price.source}"


def money(usd: float) -> str:
    return f"{usd:.2f}" if usd >= 0.1 else f"{usd:.2g}"


def wrapped(text: str, width: int, lead: str = "") -> str:
    return textwrap.fill(
        text,
        max(width, 40),
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )
