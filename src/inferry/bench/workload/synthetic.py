"""Prompts of wanted lengths, made up; and groups of them that begin alike on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

from inferry.bench.chance import stream
from inferry.bench.plan import Synthetic
from inferry.bench.records import Ask
from inferry.bench.workload.lengths import draw
from inferry.bench.workload.outline import Outline, Script


def synthetic_outlines(
    workload: Synthetic, script: Script, dues: Iterator[float | None]
) -> Iterator[Outline]:
    """Each of a random group. Lengths, groups and texts have chances of their own: a longer answer changes no
    prompt."""
    inputs, outputs, groups = (stream(script.seed, each) for each in ("input", "output", "group"))
    asked: set[int] = set()
    for number, due_s in zip(count(), dues, strict=False):
        content = script.content_tokens(draw(workload.input_tokens, inputs), by_ids=workload.by_ids)
        group = groups.randrange(workload.prefix_groups)
        yield Outline(
            number,
            None,
            partial(
                _ask,
                workload,
                script,
                number,
                due_s,
                # A prompt that is all prefix would be one and the same for all of a group.
                content_tokens=max(content, workload.prefix_tokens + 1),
                output_tokens=draw(workload.output_tokens, outputs),
                group=group,
                shared_tokens=workload.prefix_tokens if group in asked else 0,
            ),
        )
        asked.add(group)


def _ask(
    workload: Synthetic,
    script: Script,
    number: int,
    due_s: float | None,
    *,
    content_tokens: int,
    output_tokens: int,
    group: int,
    shared_tokens: int,
) -> Ask:
    prefix = workload.prefix_tokens
    parts = (
        (prefix, script.chance("prefix", group, unique=workload.unique)),
        (content_tokens - prefix, script.chance("prompt", number, unique=workload.unique)),
    )
    text, token_ids = script.written(parts, by_ids=workload.by_ids)
    return Ask(
        number=number,
        due_s=due_s,
        text=text,
        token_ids=token_ids,
        input_tokens=content_tokens + script.overhead_tokens(by_ids=workload.by_ids),
        output_tokens=output_tokens,
        shared_tokens=shared_tokens,
    )
