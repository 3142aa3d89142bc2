"""`inferry plan --explain`: each number with the formula that it came from and the facts that went in."""

from __future__ import annotations

from dataclasses import replace

from inferry.cli.plan_bar import gib
from inferry.cli.plan_text import TITLES, WIDTH_MAX, duration, money, price_words, table, wrapped
from inferry.planner.architecture import Architecture
from inferry.planner.capacity import ttft_quantile
from inferry.planner.load import Load
from inferry.planner.recommend import Option
from inferry.planner.sizing import KV_MARGIN, Physics
from inferry.planner.wish import Wish

NOTHING_MS = 0.005


def explain_text(arch: Architecture, wish: Wish, option: Option, physics: Physics, columns: int) -> str:
    width = min(columns, WIDTH_MAX)
    parts = [
        _facts(arch, option, width),
        _memory(arch, option, width),
        _speed(option, wish, width),
        _choice(arch, option, wish, physics, width),
    ]
    if option.cost is not None:
        parts.append(_cost(option, wish, width))
    return "\n\n".join(parts)


def _facts(arch: Architecture, option: Option, width: int) -> str:
    device = option.sized.candidate.hardware.device
    source = option.sized.candidate.source
    lines = [
        "FACTS",
        wrapped(
            f"model    {arch.layers} layers, hidden {arch.hidden:,}, vocabulary {arch.vocab:,}: {arch.source or 'no source'}",
            width,
            "  ",
        ),
        wrapped(
            f"device   {gib(device.usable_bytes)} GiB of {gib(device.memory_bytes)} usable, {device.bandwidth_bytes_per_s / 1e9:,.0f} GB/s, "
            + ", ".join(f"{value / 1e12:,.0f} TFLOP/s {name}" for name, value in device.flops_per_s.items())
            + f": {device.source}",
            width,
            "  ",
        ),
    ]
    if device.price is not None:
        lines.append(
            wrapped(
                f"price    {device.price.usd_per_hour:.2f} USD/h per device: {price_words(device.price)}",
                width,
                "  ",
            )
        )
    if source.source:
        lines.append(wrapped(f"weights  {source.repo}: {source.source}", width, "  "))
    lines += [wrapped(f"support  {note}", width, "  ") for note in option.sized.candidate.notes]
    return "\n".join(lines)


def _memory(arch: Architecture, option: Option, width: int) -> str:
    memory, setup = option.sized.memory, option.sized.setup
    rows = [
        ("MEMORY, PER DEVICE", "GIB", "FROM"),
        (
            "budget",
            gib(memory.budget),
            f"memory fraction {setup.memory_fraction:g} as {TITLES[setup.engine]} counts it",
        ),
        (
            "weights",
            gib(memory.weights),
            f"tensors by class x bytes of {setup.weights} / split over {setup.devices}",
        ),
        (
            "activations",
            gib(memory.activations),
            f"one step of {setup.max_batched_tokens:,} tokens and {setup.max_sequences:,} sequences",
        ),
        (
            "graphs",
            gib(memory.graphs),
            f"CUDA graphs, {'within' if memory.graphs_in_budget else 'beside'} the budget",
        ),
        ("engine", gib(memory.runtime), "its context and communication, constants per version"),
        ("KV cache", gib(memory.kv), "budget less all of these"),
        (
            "KV cache per token",
            f"{memory.kv_bytes_per_token / 1024:.1f} KiB",
            f"from the layers' kinds, in {setup.kv}",
        ),
        ("KV cache", f"{memory.kv_tokens:,} tokens", f"whole blocks; {KV_MARGIN:.0%} of it is promised"),
    ]
    return f"{table(rows, width)}\n{wrapped('How well this is known: docs/accuracy.md has each engine start that it was checked on.', width, '  ')}"


def _speed(option: Option, wish: Wish, width: int) -> str:
    sized, found = option.sized, option.sized.at_load
    load = sized.load
    amount = (
        f"{load.concurrency:g} at once"
        if load.concurrency is not None
        else f"{load.requests_per_s:g} requests/s"
    )
    rows = [(f"ONE STEP OF A REPLICA ({amount})", "MS", "SHARE")]
    total = sum(found.parts_ms.values()) or 1.0
    rows += [
        (name, f"{value:.2f}", f"{value / total:.0%}")
        for name, value in sorted(found.parts_ms.items(), key=lambda part: -part[1])
        if value > NOTHING_MS
    ]
    rows.append(("sum = ITL", f"{total:.2f}", ""))
    words = (
        f"Each part is its ideal time (bytes / bandwidth, FLOP / peak) times a constant fitted on published measurements. "
        f"{_first_token(option, wish)} "
        f"{_rates(load, wish)}; output tokens/s = requests/s x {wish.output_tokens}. "
        f"Ranges: the errors on models left out of the fit."
    )
    return f"{table(rows, width)}\n{wrapped(words, width, '  ')}"


def _first_token(option: Option, wish: Wish) -> str:
    """With the law of capacity.ttft_quantile_ms in words."""
    found, share = option.sized.at_load, wish.slo.percentile
    if option.sized.queue_grows:
        return "More requests come than are served: TTFT grows for as long as that lasts."
    law = (
        "spread evenly from none to twice their mean"
        if wish.requests_per_s is None
        else "exponentially long, for those that wait at all"
    )
    return (
        f"TTFT {duration(found.ttft_ms.value)} on average: the prompt's own prefill, steps that it waits for, and the engine's API; "
        f"of it, {duration(found.ttft_wait_ms)} are a wait for others. {share:.0%} have it by "
        f"{duration(ttft_quantile(found, share).value)}, with waits {law}."
    )


def _rates(load: Load, wish: Wish) -> str:
    if load.requests_per_s is not None:
        return "Requests/s: as many as arrive, or as are served where the queue grows"
    return f"Requests/s = requests in flight / (TTFT + ITL x {wish.output_tokens - 1})"


def _choice(arch: Architecture, option: Option, wish: Wish, physics: Physics, width: int) -> str:
    sized = option.sized
    words = [
        f"Capacity: at most {sized.capacity.concurrency} at once on one replica keep TTFT and ITL within the SLO and find a "
        f"place. {_binding(arch, option, wish, physics)}",
        f"Longest request {sized.setup.max_model_tokens:,} tokens: "
        + (
            "as --context says."
            if wish.context_tokens is not None
            else "4 times the mean, a power of two, at least 4,096; our choice, not a measurement."
        ),
    ]
    if wish.has_load:
        words.insert(
            1,
            f"Replicas: the fewest of which each keeps the SLO with its share; the worst bound is used to {sized.strain:.0%}."
            if sized.keeps_slo
            else "Replicas: no number that there is hardware for keeps the SLO.",
        )
    return "\n".join(["CHOICE", *(wrapped(each, width, "  ") for each in words)])


def _binding(arch: Architecture, option: Option, wish: Wish, physics: Physics) -> str:
    """What one request more would break."""
    sized, slo = option.sized, wish.slo
    more = sized.capacity.concurrency + 1
    setup = replace(sized.setup, max_sequences=more)
    found = physics.speed(arch, sized.candidate.hardware.device, setup, wish.at_once(more))
    told, broken = [], []
    for name, value, allowed in (
        ("TTFT", ttft_quantile(found, slo.percentile).value, slo.ttft_ms),
        ("ITL", found.itl_ms.value, slo.itl_ms),
    ):
        if allowed is not None:
            told.append(f"{name} {duration(value)} of {duration(allowed)}")
            broken += [name] if value > allowed else []
    what = (
        f"{' and '.join(broken)} would break the SLO"
        if broken
        else "what binds is the place: the KV cache, or how many the engine takes at once"
    )
    return f"With {more}: {', '.join(told)}: {what}." if told else f"With {more}: {what}."


def _cost(option: Option, wish: Wish, width: int) -> str:
    cost, sized = option.cost, option.sized
    assert cost is not None
    rate = sized.busy_replicas * sized.at_load.output_tokens_per_s.value
    share = sized.at_load.parts_ms.get("prefill", 0.0) / (sum(sized.at_load.parts_ms.values()) or 1.0)
    words = (
        f"{cost.usd_per_hour:.2f} USD/h / (3600 s x {rate:,.0f} tokens/s) x 1e6 = {money(cost.usd_per_mtok_all_on_output.value)} USD per "
        f"million output tokens. Shared out, prompts get {share:.0%} of it: their part of a step."
    )
    return f"COST\n{wrapped(words, width, '  ')}"
