"""How a stream that has lost its replica is gone on with at another one: what to ask for, and what to do with it.

what the client has                        way       the other replica
nothing that was generated                 replay    is asked the same
plain text, and its tokens are known       token_ids goes on behind these tokens (token_ids.py)
plain text of one answer                   text      continues it (engines/continuation.py)
everything but the end                     count     says how long the prompt was
tool calls, reasoning, JSON by a grammar,  replay    is asked the same; what the client has is passed over. Only where
several choices, log-probabilities                   the answer comes out the same: temperature 0, or a seed
the same of a random answer                -         the stream ends with an error

Prompt tokens of a text that went on are those of the last engine, less what was generated before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from inferry.core.request import CHAT, COMPLETIONS, LENGTH_FIELDS, Route
from inferry.engines.continuation import Continuation, NotContinued, continue_chat, continue_completion
from inferry.gateway.delivered import CONTENT, Delivered, Part
from inferry.gateway.splice import Continued, ContinuedAsCompletion, Counted, Replayed, Splice
from inferry.gateway.token_ids import TOKEN_IDS_FIELD, body_from_ids

RESUMABLE = frozenset({CHAT, COMPLETIONS})
TOKEN_IDS, TEXT, REPLAY, COUNT = "token_ids", "text", "replay", "count"
_TEXT_PART = Part(0, CONTENT)
_STOP = "stop"


@dataclass(frozen=True, slots=True)
class Leg:
    route: Route
    """Where the other replica is asked."""
    body: bytes
    splice: Splice
    way: str
    """`token_ids`, `text`, `replay` or `count`."""


@dataclass(frozen=True, slots=True)
class NothingLeft:
    """The client has the whole answer and why it ended; how long its prompt was can't be had any more."""


@dataclass(frozen=True, slots=True)
class NotResumed:
    because: str


def next_leg(
    route: Route,
    body: bytes,
    delivered: Delivered,
    tokens: int,
    continuation: Continuation,
    model: str | None = None,
    asks_ids: bool = False,
    ids: list[int] | None = None,
) -> Leg | NothingLeft | NotResumed:
    """`body`: what the first replica was asked. `tokens`: what the client has of them. `continuation`: of the engine that
    shall go on; `model`: how it calls the model, where that is another engine. `asks_ids`: the gateway has asked for token ids, not the client. `ids`: of the prompt and of these tokens,
    where they are known, and where the other replica has the same."""
    if route not in RESUMABLE:
        return NotResumed(f"streams of {route.path} can't be resumed")
    if delivered.odd is not None:
        return NotResumed(delivered.odd)
    fields: dict[str, Any] = msgspec.json.decode(body)
    if asks_ids:
        fields.pop(TOKEN_IDS_FIELD, None)
    if model is not None:
        fields["model"] = model
        body = msgspec.json.encode(fields)
    parts = delivered.parts
    if not parts and not delivered.finished:
        return Leg(route, body, Replayed(delivered), REPLAY)
    if set(parts) <= {_TEXT_PART}:
        left = _length_left(fields, tokens)
        reason = delivered.finished.get(0)
        if reason is not None or left == 0:
            leg = _count(route, fields, delivered, tokens, continuation)
            if isinstance(leg, Leg) or not _comes_out_the_same(fields):
                return leg
            return Leg(route, body, Replayed(delivered), REPLAY)
        go_on = continue_chat if route is CHAT else continue_completion
        plan = go_on(continuation, fields, delivered.text(_TEXT_PART), tokens)
        if not isinstance(plan, NotContinued):
            if ids is not None and (exact := body_from_ids(route, plan.body, ids)) is not None:
                as_sent = ContinuedAsCompletion if route is CHAT else Continued
                return Leg(COMPLETIONS, msgspec.json.encode(exact), as_sent(delivered, tokens, ""), TOKEN_IDS)
            return Leg(
                route, msgspec.json.encode(plan.body), Continued(delivered, tokens, plan.may_repeat), TEXT
            )
        because = plan.because
    else:
        because = "more than plain text was under way"
    if not _comes_out_the_same(fields):
        return NotResumed(f"{because}, and its answer is random (no seed, and a temperature above 0)")
    return Leg(route, body, Replayed(delivered), REPLAY)


def _count(
    route: Route, fields: dict[str, Any], delivered: Delivered, tokens: int, continuation: Continuation
) -> Leg | NothingLeft | NotResumed:
    """One more token is asked for, and thrown away."""
    reason = delivered.finished.get(0)
    # The sign that ended it is a token, too, and had no event.
    unseen = int(reason == _STOP and not fields.get("stop"))
    lengths = {name: 1 for name in LENGTH_FIELDS if name in fields}
    without = {**fields, **dict.fromkeys(lengths, tokens + 1)}
    without.pop("min_tokens", None)
    go_on = continue_chat if route is CHAT else continue_completion
    plan = go_on(continuation, without, delivered.text(_TEXT_PART), tokens)
    if isinstance(plan, NotContinued):
        if reason is not None:
            return NothingLeft()
        return NotResumed(plan.because)
    body = {**plan.body, **(lengths or {"max_tokens": 1})}
    splice = Counted(delivered, tokens, unseen, "length" if reason is None else None)
    return Leg(route, msgspec.json.encode(body), splice, COUNT)


def _length_left(fields: dict[str, Any], tokens: int) -> int | None:
    lengths = [
        length
        for name in LENGTH_FIELDS
        if isinstance(length := fields.get(name), int) and not isinstance(length, bool) and length > 0
    ]
    return max(0, min(lengths) - tokens) if lengths else None


def _comes_out_the_same(fields: dict[str, Any]) -> bool:
    return fields.get("temperature") == 0 or fields.get("top_k") == 1 or isinstance(fields.get("seed"), int)
