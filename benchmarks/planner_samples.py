"""Published runs as the fit needs them: the ideal parts of their steps, prefills and waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.planner_runs import Run
from inferry.planner.burst_speed import burst_of
from inferry.planner.first_token import burst_terms, drain_terms, first_token_terms
from inferry.planner.performance import slots_of
from inferry.planner.speed_facts import SpeedConstants, groups_of
from inferry.planner.step_work import decode_terms, prefill_terms, step_model

Terms = dict[str, float]


@dataclass(slots=True)
class Sample:
    """A run with what the fit needs of it: ideal parts at its operating point."""

    run: Run
    groups: tuple[str, ...]
    decodes: float
    waiting: float
    step: Terms
    beside: Terms
    """Prefills of others within a step."""
    prefill: Terms
    """Of one prompt alone; of a burst, of all prompts before a mean first token."""
    wait: Terms
    """Of a burst: steps of running sequences before a mean first token."""
    whole: tuple[Terms, Terms]
    """Of a burst: all steps of running sequences, and all prefills."""


def sample_of(run: Run) -> Sample:
    model = step_model(run.arch, run.device, run.setup)
    slots = slots_of(run.arch, run.device, run.setup, run.load)
    groups, prompt = groups_of(run.device, run.setup), run.load.input_tokens
    context = prompt + run.load.output_tokens / 2
    rush = burst_of(run.arch, run.device, run.setup, run.load, slots.count)
    if rush is not None:
        token, wait, whole = rush.token, rush.wait, rush.whole
        beside = prefill_terms(model, prompt, token.prompts, token.passes)
        return Sample(
            run,
            groups,
            token.decodes,
            0.0,
            decode_terms(model, token.decodes, context)
            | {"burst": token.decodes, "burst_prefill": beside["prefill_compute"]},
            beside,
            _burst_prefill(prefill_terms(model, prompt, wait.prompts, wait.passes)),
            _times(wait.steps, decode_terms(model, wait.decodes, context)),
            (
                _times(whole.steps, decode_terms(model, whole.decodes, context)),
                _burst_prefill(prefill_terms(model, prompt, whole.prompts, whole.passes)),
            ),
        )
    at_once = run.load.concurrency or 0.0
    decodes = min(at_once, slots.count)
    prompts = decodes / run.load.output_tokens / run.setup.pipeline_parallel
    return Sample(
        run,
        groups,
        decodes,
        at_once - decodes,
        decode_terms(model, decodes, context) | {"burst": 0.0, "burst_prefill": 0.0},
        prefill_terms(model, prompt, prompts, min(1.0, prompts)),
        prefill_terms(model, prompt),
        {},
        ({}, {}),
    )


def _burst_prefill(terms: Mapping[str, float]) -> Terms:
    return {**terms, "burst_prefill": terms["prefill_compute"]}


def _times(steps: float, terms: Mapping[str, float]) -> Terms:
    return {term: steps * ideal for term, ideal in terms.items()}


def samples_of(runs: Sequence[Run]) -> list[Sample]:
    """Of closed loops and bursts with both times measured."""
    kinds = ("closed_loop", "all_at_once")
    return [sample_of(run) for run in runs if run.kind in kinds and run.tpot_ms and run.ttft_ms]


def step_parts(sample: Sample) -> Terms:
    """Of TPOT."""
    return sample.step | sample.beside


def loop_ttft_parts(sample: Sample, constants: SpeedConstants) -> Terms:
    """Of TTFT in a closed loop; `constants` give the step and the prefill."""
    known = constants.constants("step", sample.groups)
    step_ms, prefill_ms = _total(known, step_parts(sample)), _total(known, sample.prefill)
    slot_wait = sample.run.load.output_tokens * step_ms * sample.waiting / sample.decodes
    return first_token_terms(step_ms, prefill_ms, sample.decodes, slot_wait)


def burst_ttft_parts(sample: Sample, constants: SpeedConstants) -> Terms:
    """Of the mean TTFT in a burst."""
    known = constants.constants("step", sample.groups)
    requests = float(sample.run.load.all_at_once or 0)
    return burst_terms(_total(known, sample.wait), _total(known, sample.prefill), requests)


def drain_parts(sample: Sample, constants: SpeedConstants) -> Terms:
    """Of the time until a burst is done."""
    known = constants.constants("step", sample.groups)
    steps, prefills = sample.whole
    stream_ms = sample.run.load.output_tokens * _total(known, step_parts(sample))
    requests = float(sample.run.load.all_at_once or 0)
    return drain_terms(_total(known, steps), _total(known, prefills), requests, stream_ms)


def drain_ms(run: Run) -> float:
    """Measured; 0 where no rate was published."""
    tokens = (run.load.all_at_once or 0) * run.load.output_tokens
    return 1e3 * tokens / run.output_tokens_per_s if run.output_tokens_per_s else 0.0


def _total(known: Mapping[str, float], terms: Mapping[str, float]) -> float:
    return sum(known[term] * ideal for term, ideal in terms.items())
