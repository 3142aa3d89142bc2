"""Why it is that option, and what to watch: sentences for people, each from figures that the search found."""

from __future__ import annotations

from collections.abc import Sequence

from .architecture import Architecture
from .device import Device
from .facts.engine_support import engine_support
from .recommend import Option
from .setup import Setup
from .sizing import REPLICAS_MAX
from .speed_facts import groups_of, shipped_speed_constants
from .wish import Wish

TIGHT_FREE = 0.05
MEASURED_VENDOR = "nvidia"
"""Whose devices the speed formulas were fitted on (docs/accuracy.md): only those are proposed unasked."""
WORTH_SAYING = 0.2
"""Of the price, saved."""
NEARLY_FULL = 0.85
"""Of the capacity: a small mistake in the load is then a broken SLO."""


def why(best: Option, others: Sequence[Option], wish: Wish) -> str:
    """One sentence: what makes it better than the next ones."""
    sized = best.sized
    if sized.queue_grows and wish.requests_per_s is not None:
        served = sized.replicas * sized.at_load.requests_per_s.value
        return (
            f"Nothing here serves that load; this comes nearest: of {_number(wish.requests_per_s)} requests/s it serves {_number(served)}, "
            "and the queue grows for as long as it runs."
        )
    if not sized.keeps_slo and sized.strain_alone > 1:
        return (
            f"Nothing here keeps the SLO, and no number of such replicas would: even one request alone is "
            f"{_over(sized.strain_alone)}. This comes nearest, {_over(sized.strain)}."
        )
    if not sized.keeps_slo:
        return f"Nothing here keeps the SLO; this comes nearest, {_over(sized.strain)}."
    if not best.in_budget:
        return "It keeps the SLO; it does not keep the budget."
    parts = []
    if best.cost is not None and not wish.has_load:
        parts.append("it makes the most tokens for the money")
    elif best.cost is not None:
        parts.append("it is the cheapest that keeps the SLO")
    elif wish.has_load:
        parts.append("it keeps the SLO with the fewest devices")
    else:
        parts.append("it makes the most tokens on these devices")
    if wish.quantization == "auto":
        if best.sized.candidate.as_it_is:
            parts.append("leaves the model as its makers published it")
        else:
            parts.append("does it only with quantization (the model as it is does not do it here)")
    if best.sized.at_load.limited_by != "arrivals":
        parts.append(f"is limited by {best.sized.at_load.limited_by}")
    return _sentence(parts)


def cheaper_changed(best: Option, others: Sequence[Option]) -> str:
    """That quantization would save much, where the model was left as it is; empty where it would not."""
    if not best.good or best.cost is None or not best.sized.candidate.as_it_is:
        return ""
    costs = [
        other.cost.usd_per_hour
        for other in others
        if other.good and other.cost is not None and not other.sized.candidate.as_it_is
    ]
    saved = 1 - min(costs, default=best.cost.usd_per_hour) / best.cost.usd_per_hour
    if saved < WORTH_SAYING:
        return ""
    return f"With quantization it could cost {saved:.0%} less, if the answers stay good enough: --quant any."


def differs(best: Option, other: Option) -> str:
    """What one gets and loses by taking `other` instead, in a few words."""
    words = []
    if other.cost is not None and best.cost is not None and best.cost.usd_per_hour:
        ratio = other.cost.usd_per_hour / best.cost.usd_per_hour
        if abs(ratio - 1) >= 0.01:
            words.append(f"{abs(ratio - 1):.0%} {'dearer' if ratio > 1 else 'cheaper'}")
    if other.sized.keeps_slo and best.sized.keeps_slo:
        faster = best.sized.at_load.itl_ms.value / other.sized.at_load.itl_ms.value
        if faster >= 1.1:
            words.append(f"{faster - 1:.0%} faster per token")
        elif faster <= 0.9:
            words.append(f"{1 / faster - 1:.0%} slower per token")
    if not other.sized.keeps_slo:
        words.append("does not keep the SLO")
    if not other.sized.candidate.as_it_is and best.sized.candidate.as_it_is:
        words.append("changes the model's precision")
    return ", ".join(words) or "much the same"


def spare(option: Option, wish: Wish) -> str:
    """N+1: what happens when one replica is lost."""
    sized = option.sized
    if not wish.has_load:
        return ""
    more = "" if option.cost is None else f", {option.cost.usd_per_hour / sized.replicas:.2f} USD/h more"
    one_more = f"plan one replica more ({sized.replicas + 1} in all{more})"
    if sized.strain_alone > 1:
        return ""
    if sized.replicas == 1:
        return (
            f"There is one replica: while it is down or restarts, nobody is served. To stay up, {one_more}."
        )
    if sized.strain_one_lost <= 1:
        return "If one replica fails, the others still keep the SLO."
    return f"If one replica fails, the others are {_over(sized.strain_one_lost)}: to keep the SLO then, {one_more}."


def warnings(option: Option, arch: Architecture, wish: Wish) -> tuple[str, ...]:
    """What is tight, unsure or changed."""
    sized, memory = option.sized, option.sized.memory
    found = []
    free = memory.total - memory.budget - (0 if memory.graphs_in_budget else memory.graphs)
    if free < TIGHT_FREE * memory.total and not memory.graphs_in_budget and memory.graphs:
        found.append(
            "CUDA graphs are outside of what this engine version budgets, and little is left for them: lower "
            "memory_fraction by 0.05 if it runs out of memory at its start."
        )
    if sized.setup.max_model_tokens is not None and wish.context_tokens is None:
        longest = sized.setup.max_model_tokens
        if longest < arch.max_position:
            found.append(
                f"Requests may have {longest:,} tokens, prompt and answer together; the model could do "
                f"{arch.max_position:,}. --context says how many you need."
            )
    if sized.keeps_slo and sized.strain_high > 1:
        found.append(
            "The prediction keeps the SLO, the far end of its range does not: measure it with 'inferry bench' before "
            "you promise it."
        )
    device = sized.candidate.hardware.device
    found += unmeasured(device, sized.setup, wish)
    if sized.keeps_slo and sized.utilisation > NEARLY_FULL and wish.has_load:
        found.append(
            f"It runs at {sized.utilisation:.0%} of its capacity: more load than planned breaks the SLO."
        )
    if device.price is not None and device.price.kind == "market place":
        found.append(
            f"The price of {device.name} is the lowest that a market place asked: not comparable with list prices, and not "
            "there to stay."
        )
    if note := sized.candidate.source.note:
        found.append(f"Quality: {note}.")
    if sized.setup.kv not in ("bf16", "fp16", "fp32"):
        found.append(
            f"Quality: the KV cache is kept in {sized.setup.kv}; compare long answers with the original's."
        )
    engine = sized.setup.engine
    found += [f"{engine_support()[engine].title}, {note}." for note in sized.candidate.notes]
    if sized.setup.weights == "gguf" and engine not in ("llamacpp", "ollama"):
        found.append("GGUF is llama.cpp's own format: --engine llamacpp plans with it.")
    if sized.replicas == REPLICAS_MAX and not option.good:
        found.append(f"A deployment takes {REPLICAS_MAX} replicas at most: share the load out over several.")
    if sized.devices > device.devices_per_host_max:
        found.append(
            f"{sized.devices} devices are more than the {device.devices_per_host_max} of one host: run the file on each host with its share "
            "of the replicas, behind one address."
        )
    found += [f"Not known of this model: {note}" for note in arch.notes]
    return tuple(found)


def unmeasured(device: Device, setup: Setup, wish: Wish) -> list[str]:
    """Which of these predictions were never held against a measurement (facts/performance.json)."""
    checked = shipped_speed_constants().residuals["step"]
    engine, family, pair = groups_of(device, setup)
    found = []
    if pair not in checked:
        found.append(
            f"Speed of {engine} on {device.name} was never compared with measurements: none on devices of its family ({family}) "
            "went into the formulas' ranges. Measure it with 'inferry bench' before you rely on it."
        )
    if wish.requests_per_s is not None:
        found.append(
            "Speed was measured with users who ask again when answered, never with requests that come at a rate: there, the "
            "ranges are those of the same formulas, unchecked."
        )
    return found


def _over(strain: float) -> str:
    if strain < 2:
        return f"{strain - 1:.0%} over the bound"
    return f"at {_number(strain)} times the bound"


def _number(value: float) -> str:
    """Three figures where it is small, whole where it is large."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _sentence(parts: Sequence[str]) -> str:
    text = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"{text[0].upper()}{text[1:]}."
