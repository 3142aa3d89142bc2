"""An answer that is broken at each of its bytes in turn: the client's stream is whole, whatever breaks and where.

By default at every thirteenth byte; the slow suite takes them all.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest

from inferry.core.failover_settings import Failover

from .cutting_proxy import Damage, Kind
from .expected_answers import CHAT, COMPLETIONS, expected_answer
from .load import random_ask
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
    return Ask(f"ask-{next(ids):06}", path, body, expected_answer(path, body))


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


EVENT_INSIDE = re.compile(rb"(?<=data: [{]).+[}](?=\n\n)")
CHUNK_FRAME = re.compile(rb"(?<=\n\n)\r\n[0-9a-f]+\r\n")


WAYS = pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {}),
        (CHAT, {"stream_options": {"include_usage": True}}),
        (COMPLETIONS, {"stream_options": {"include_usage": True}, "seed": 7}),
    ],
    ids=["chat", "chat-usage", "completions-usage"],
)


EVERY = pytest.mark.parametrize(
    "every", [13, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)


@EVERY
@WAYS
@pytest.mark.parametrize("kind", ["close", pytest.param("reset", marks=pytest.mark.slow)])
async def test_a_connection_that_ends_at_any_byte(
    path: str, fields: dict[str, Any], kind: Kind, every: int
) -> None:
    """Closed or reset at a byte, from the first of the head to the last of the answer: one whole stream, one outcome, and
    the sums of an undisturbed answer."""
    async with small_stand() as stand:
        size = await answer_bytes(stand, ask_for(path, **fields))
        assert await broken_by(stand, path, kind, range(0, size, every), **fields) == []


@WAYS
async def test_a_frame_that_breaks(path: str, fields: dict[str, Any]) -> None:
    """A byte of HTTP's own between two events is zero: the rest of that answer is not believed, and comes from another
    replica."""
    async with small_stand() as stand:
        await answer_bytes(stand, ask_for(path, **fields))
        places = [at for match in CHUNK_FRAME.finditer(stand.damages.seen) for at in range(*match.span())]
        assert len(places) > 40
        assert await broken_by(stand, path, "corrupt", places, **fields) == []


@EVERY
@WAYS
async def test_an_event_that_breaks(path: str, fields: dict[str, Any], every: int) -> None:
    """A zero byte anywhere in the JSON of an event: it does not reach the client, what it said comes from another
    replica."""
    async with small_stand() as stand:
        await answer_bytes(stand, ask_for(path, **fields))
        inside = [range(*match.span()) for match in EVENT_INSIDE.finditer(stand.damages.seen)]
        assert len(inside) > TOKENS
        places = [at for event in inside for at in event if at % every == 0 or at == event[-1]]
        assert await broken_by(stand, path, "corrupt", places, **fields) == []


async def test_an_answer_that_drips() -> None:
    """Bytes that come one by one, from the first or from the middle, make the same stream, and no fault."""
    async with small_stand() as stand:
        size = await answer_bytes(stand, ask_for(CHAT))
        assert await broken_by(stand, CHAT, "drip", (0, size // 3, size // 2)) == []


@pytest.mark.timeout(60)
async def test_a_connection_that_falls_silent() -> None:
    """Eight streams whose engines say nothing more, at eight places behind the first event, and keep their connections:
    all go on elsewhere."""
    async with small_stand(Failover(stall_after_s=0.3, load_factor_max=10)) as stand:
        size = await answer_bytes(stand, ask_for(CHAT))
        first = stand.damages.seen.index(
            b"\n\n\r\n"
        )  # before it, an engine may compute the prompt for minutes
        places = [first + 20 + number * (size - first - 20) // 8 for number in range(8)]
        asks = [ask_for(CHAT) for _ in places]
        stand.damages.plan(Damage("silence", at) for at in places)
        heard = await stand.ask_all(asks)
    assert [each.faults for each in heard] == [[]] * 8
    assert stand.damages.done == 8


async def test_answers_that_break_again_and_again(dice: random.Random) -> None:
    """A hundred streams that lose up to four replicas in a row, each at a random byte and in a random way: whole."""
    kinds: tuple[Kind, ...] = ("close", "reset", "drip")
    wrong: list[str] = []
    async with small_stand(replicas=6, attempts_max=10) as stand:
        for number in range(100):
            ask = random_ask(dice, f"again-{number}", tokens_max=40)
            damages = [Damage(dice.choice(kinds), dice.randrange(12_000)) for _ in range(dice.randint(1, 4))]
            stand.damages.plan(damages)
            heard, outcomes = await stand.ask(ask)
            found = [*heard.faults, *wrong_in(ask, outcomes[0])] if len(outcomes) == 1 else [f"{outcomes}"]
            wrong += [f"{damages}: {each}" for each in found]
    assert wrong == []
