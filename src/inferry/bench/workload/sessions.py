"""Conversations: each turn repeats all before it, and comes a while after the last answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

from msgspec.structs import replace

from inferry.bench.chance import stream
from inferry.bench.plan import Sessions
from inferry.bench.records import Ask
from inferry.bench.workload.lengths import draw
from inferry.bench.workload.outline import Outline, Script


def session_outlines(workload: Sessions, script: Script, dues: Iterator[float | None]) -> Iterator[Outline]:
    """One session per time in `dues`; its turns have numbers one after the other.

    Earlier answers are made up, as long as they were asked to be: what the server really said is not known
    beforehand. So a cache can have all that the turn before asked, and not the answer to it.
    """
    numbers = count()
    for session, due_s in zip(count(), dues, strict=False):
        # A chance for each session: how many turns one has changes no other.
        chance = stream(script.seed, "session", session)
        questions: tuple[int, ...] = ()
        answers: tuple[int, ...] = ()
        before_tokens = workload.prefix_tokens if session else 0
        previous: int | None = None
        for turn in range(draw(workload.turns, chance)):
            questions += (draw(workload.turn_tokens if turn else workload.first_tokens, chance),)
            output_tokens = draw(workload.output_tokens, chance)
            think_s = chance.expovariate(1.0) * workload.think_s if turn else 0.0
            number = next(numbers)
            said = workload.prefix_tokens + sum(questions) + sum(answers)
            wording = script.wording
            around_tokens = wording.overhead_tokens + turn * wording.turn_tokens
            if workload.prefix_tokens:
                around_tokens += wording.system_tokens
            ask = Ask(
                number=number,
                due_s=None if turn else due_s,
                input_tokens=said + around_tokens,
                output_tokens=output_tokens,
                shared_tokens=before_tokens,
                session=session,
                after=previous,
                think_s=think_s,
            )
            make = partial(_with_messages, ask, workload, script, questions, answers)
            yield Outline(number, session, make, after=previous, think_s=think_s)
            answers += (output_tokens,)
            before_tokens, previous = said, number


def _with_messages(
    ask: Ask, workload: Sessions, script: Script, questions: tuple[int, ...], answers: tuple[int, ...]
) -> Ask:
    write = script.writer.text
    messages: list[tuple[str, str]] = []
    if workload.prefix_tokens:
        messages.append(("system", write([(workload.prefix_tokens, script.chance("prefix"))])))
    for turn, tokens in enumerate(questions):
        messages.append(("user", write([(tokens, script.chance("question", ask.session, turn))])))
        if turn < len(answers):
            messages.append(
                ("assistant", write([(answers[turn], script.chance("answer", ask.session, turn))]))
            )
    return replace(ask, messages=tuple(messages))
