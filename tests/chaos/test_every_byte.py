"""An answer that is broken at each of its bytes in turn: the client's stream is whole, whatever breaks and where."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from .cutting_proxy import Damage, Kind
from .expected_answers import CHAT, COMPLETIONS, expected_answer
from .small_stand import SmallStand, small_stand
from .strict_client import Ask

TOKENS = 7
ids = itertools.count()


def ask_for(path: str, **fields: Any) -> Ask:
    body: dict[str, Any] = {"model": "chat", "stream": True, "max_tokens": TOKENS, **fields}
    if path == CHAT:
        body["messages"] = [{"role": "user", "content": "Tell me about the café by the sea."}]
    else:
        body["prompt"] = "Once upon a time there was a café by the"
    return Ask(f"ask-{next(ids)}", path, body, expected_answer(path, body))


async def answer_bytes(stand: SmallStand, ask: Ask) -> int:
    """How long an undisturbed answer is, as the engine sends it."""
    stand.damages.plan([])
    heard, [outcome] = await stand.ask(ask)
    assert heard.faults == []
    assert outcome.attempts == 1
    return stand.damages.answers[0]


async def broken_by(
    stand: SmallStand, path: str, kind: Kind, places: Sequence[int], **fields: Any
) -> list[str]:
    """What clients saw of a break at each of these bytes, and what is wrong in the books."""
    found: list[str] = []
    for at in places:
        ask = ask_for(path, **fields)
        stand.damages.plan([Damage(kind, at)])
        heard, outcomes = await stand.ask(ask)
        assert stand.damages.done == 1, f"byte {at} was never reached"
        wrong = [*heard.faults]
        if len(outcomes) != 1:
            wrong.append(f"{len(outcomes)} outcomes")
        elif not wrong:
            wrong += wrong_in(ask, outcomes[0])
        found += [f"{kind} at byte {at}: {each}" for each in wrong]
    return found


def wrong_in(ask: Ask, outcome: Any) -> list[str]:
    expected = ask.expected
    wanted = (
        "completed",
        expected.prompt_tokens,
        expected.completion_tokens,
        expected.finish_reason,
    )
    told = (outcome.ending, outcome.prompt_tokens, outcome.completion_tokens, outcome.finish_reason)
    return [] if told == wanted else [f"outcome {told}, not {wanted}"]


WAYS = pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {}),
        (CHAT, {"stream_options": {"include_usage": True}}),
        (COMPLETIONS, {"stream_options": {"include_usage": True}, "seed": 7}),
    ],
    ids=["chat", "chat-usage", "completions-usage"],
)


@WAYS
@pytest.mark.parametrize("kind", ["close", "reset"])
async def test_a_connection_that_ends_at_any_byte(path: str, fields: dict[str, Any], kind: Kind) -> None:
    """Closed or reset at every seventh byte from the first of the head to the last of the answer: one whole stream, one
    outcome, and the sums of an undisturbed answer."""
    async with small_stand() as stand:
        size = await answer_bytes(stand, ask_for(path, **fields))
        assert await broken_by(stand, path, kind, range(0, size, 7), **fields) == []
