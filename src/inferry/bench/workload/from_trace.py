"""A recorded trace asked again: its lengths, its times if wanted, and what its prompts had in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path

from inferry.bench.plan import FromTrace
from inferry.bench.records import Ask
from inferry.bench.workload.outline import Outline, Script
from inferry.core.errors import BadBenchPlan
from inferry.core.load_traces import (
    TracedRequest,
    TraceError,
    TraceFormat,
    read_azure,
    read_burstgpt,
    read_mooncake,
    trace_format,
)

_READERS: dict[TraceFormat, Callable[[Path], list[TracedRequest]]] = {
    "mooncake": read_mooncake,
    "burstgpt": read_burstgpt,
    "azure": read_azure,
}


def trace_outlines(
    workload: FromTrace,
    script: Script,
    dues: Iterator[float | None] | None,
    *,
    duration_s: float,
    speed: float,
) -> Iterator[Outline]:
    """In the trace's order, once. `dues`: other times than the trace's own. Raises BadBenchPlan at once."""
    trace = _read(workload)
    if dues is None:
        dues = (each.at_s / speed for each in trace if each.at_s / speed < duration_s)
    return _outlines(workload, script, trace, dues)


def _read(workload: FromTrace) -> list[TracedRequest]:
    path = Path(workload.path)
    try:
        trace = _READERS[workload.format or trace_format(path)](path)
    except TraceError as error:
        raise BadBenchPlan(str(error), param="path") from error
    except OSError as error:
        raise BadBenchPlan(f"{path} can't be read: {error.strerror}", param="path") from error
    if not trace:
        raise BadBenchPlan(f"{path} has no requests", param="path")
    return trace


def _outlines(
    workload: FromTrace, script: Script, trace: Sequence[TracedRequest], dues: Iterator[float | None]
) -> Iterator[Outline]:
    asked: set[int] = set()
    for number, (traced, due_s) in enumerate(zip(trace, dues, strict=False)):
        known = sum(1 for _ in takewhile(asked.__contains__, traced.blocks))
        asked.update(traced.blocks)
        yield Outline(number, None, partial(_ask, workload, script, number, due_s, traced, known))


def _ask(
    workload: FromTrace,
    script: Script,
    number: int,
    due_s: float | None,
    traced: TracedRequest,
    known_blocks: int,
) -> Ask:
    scale, by_ids = workload.tokens_scale, workload.by_ids
    content = script.content_tokens(max(1, round(traced.prompt_tokens * scale)), by_ids=by_ids)

    def edge(blocks: int) -> int:
        """Where so many blocks end, in tokens of the prompt."""
        return min(content, round(blocks * workload.block_tokens * scale))

    parts = [
        (edge(place + 1) - edge(place), script.chance("block", block))
        for place, block in enumerate(traced.blocks)
    ]
    # A trace without ids, or with too few of them: nobody had the rest before.
    parts.append((content - edge(len(traced.blocks)), script.chance("prompt", number)))
    text, token_ids = script.written(parts, by_ids=by_ids)
    return Ask(
        number=number,
        due_s=due_s,
        text=text,
        token_ids=token_ids,
        input_tokens=content + script.overhead_tokens(by_ids=by_ids),
        output_tokens=max(1, round(traced.answer_tokens * scale)),
        # Not the last one: engines compute at least one token to have an answer's first.
        shared_tokens=min(edge(known_blocks), content - 1),
    )
